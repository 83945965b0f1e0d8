package freezer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume/mounts"
)

// journalVersion is that of the journal's format.
const journalVersion = 1

// journal is what is frozen, or about to be, on the disk for the process that comes after this one.
type journal struct {
	Version int      `json:"version"`
	Boot    string   `json:"boot"` // with it ends whatever was frozen
	Cgroups []cgroup `json:"cgroups"`
}

// cgroup is one that is frozen.
type cgroup struct {
	Path  string `json:"path"`  // of its directory
	Inode uint64 `json:"inode"` // another one of the same path is not it
}

// cgroupAt returns the cgroup of a directory.
func cgroupAt(path string) (cgroup, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return cgroup{}, fmt.Errorf("stat %s: %w", path, err)
	}
	return cgroup{path, st.Ino}, nil
}

// set asks for the cgroup to be frozen ("1"), or not to be ("0"). The error is one of isGone if it is no more, also if
// there is another one of its path by now: what freezes that would never thaw it.
func (c cgroup) set(value string) error {
	dir, err := os.OpenRoot(c.Path)
	if err != nil {
		return err
	}
	defer dir.Close()
	info, err := dir.Stat(".")
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Ino != c.Inode {
		return fmt.Errorf("cgroup %s: %w", c.Path, fs.ErrNotExist)
	}
	f, err := dir.OpenFile(freezeFile, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// thaw lets a cgroup go on. That it is gone is no error.
func (c cgroup) thaw() error {
	if err := c.set("0"); err != nil && !isGone(err) {
		return fmt.Errorf("thaw %s: %w", c.Path, err)
	}
	return nil
}

// write makes the journal at a path say what is frozen. The content is on the disk before it has the name. Whether
// the name is does not matter: a power cut that takes it away ends what it is for.
func (j journal) write(path string) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// recoverFrom thaws what the journal at a path names, and removes it.
func recoverFrom(path string) (thawed []cgroup, _ error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var j journal
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	if j.Version != journalVersion {
		return nil, fmt.Errorf("%s is of version %d, not %d", path, j.Version, journalVersion)
	}
	boot, err := mounts.Boot()
	if err != nil {
		return nil, err
	}
	if j.Boot != boot {
		return nil, os.Remove(path)
	}
	var errs []error
	for _, c := range j.Cgroups {
		if frozen, err := isSet(c.Path); err != nil || !frozen {
			continue
		}
		if err := c.thaw(); err != nil {
			errs = append(errs, err)
			continue
		}
		thawed = append(thawed, c)
	}
	if len(errs) == 0 {
		errs = append(errs, os.Remove(path))
	}
	return thawed, errors.Join(errs...)
}
