// Package quota limits what a directory may take of its file system, by the project quotas of ext4 and XFS.
//
// Start with [Limit]. A limited directory, and all that is made below it, is one project; its number is kept by the
// file system with the directory, and free again after [Release]. What is refused beyond the limit is a write or an
// allocation, with EDQUOT (ext4) or ENOSPC (XFS); statfs below the directory shows the limit.
//
// A file system has project quotas if it was made and mounted with them: ext4 with the features quota and project
// and the option prjquota, XFS with the option prjquota. On any other the functions return [ErrUnsupported] and
// change nothing.
package quota

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrUnsupported says that nothing keeps the file system from being filled.
var ErrUnsupported = errors.New("no project quotas on this file system")

// Usage is what a directory takes, and may take at most, in bytes.
type Usage struct{ Used, Limit uint64 }

// Limit lets a directory and all that will be made in it take at most size bytes, 0 for any number. A directory that
// is not limited yet must be empty, or it stays so, with ErrUnsupported.
func Limit(dir string, size uint64) error {
	return within(dir, "limit", func(d *os.File) error {
		if err := enforced(d); err != nil {
			return err
		}
		project, err := projectOf(d)
		if err != nil || project == 0 && size == 0 {
			return err
		}
		if project == 0 {
			if project, err = begin(d); err != nil {
				return err
			}
		}
		return setLimit(d, project, size)
	})
}

// Read returns the usage of a limited directory.
func Read(dir string) (u Usage, _ error) {
	return u, within(dir, "read the limit of", func(d *os.File) error {
		if err := enforced(d); err != nil {
			return err
		}
		project, err := projectOf(d)
		if err == nil && project == 0 {
			err = ErrUnsupported
		}
		if err != nil {
			return err
		}
		u, err = getQuota(d, project)
		return err
	})
}

// Supported returns [ErrUnsupported] unless what is made in a directory, which must be there, can be limited.
func Supported(dir string) error { return within(dir, "look for quotas at", enforced) }

// Release forgets the limit of a directory, which is to be deleted next. One without is no error.
func Release(dir string) error {
	err := Limit(dir, 0)
	if errors.Is(err, ErrUnsupported) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func within(dir, what string, f func(d *os.File) error) error {
	d, err := os.Open(dir)
	if err == nil {
		defer d.Close()
		err = f(d)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, dir, err)
	}
	return nil
}

// begin makes an empty directory a project of its own. The number is durable before it has a limit: one that
// nothing speaks of would be taken for ever.
func begin(d *os.File) (project uint32, err error) {
	if names, err := d.Readdirnames(1); len(names) > 0 {
		return 0, errors.Join(ErrUnsupported, err)
	}
	if project, err = unused(d); err != nil {
		return 0, err
	}
	if err := setProject(d, project); err != nil {
		return 0, err
	}
	return project, unix.Syncfs(int(d.Fd()))
}

// Numbers are taken at random from a range that people and other programs, which count from 1, leave alone.
const (
	firstProject = 1 << 30
	projects     = 1 << 30
	attempts     = 100
)

// unused finds the number of a project that nothing belongs to.
func unused(d *os.File) (uint32, error) {
	for range attempts {
		var b [4]byte
		rand.Read(b[:])
		project := firstProject + binary.NativeEndian.Uint32(b[:])%projects
		if u, err := getQuota(d, project); err != nil || u == (Usage{}) {
			return project, err
		}
	}
	return 0, errors.New("all project numbers are in use")
}
