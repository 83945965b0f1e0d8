package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mounted is a directory that somebody serves until end is called.
type mounted struct {
	dir string
	end func() error
}

// A mounter is a repository that can show a snapshot of src as a directory somewhere below dir.
type mounter interface {
	repository
	Mount(ctx context.Context, id, src, dir string) (mounted, error)
}

var (
	_ mounter = (*ipfs)(nil)
	_ mounter = (*restic)(nil)
	_ mounter = (*kopia)(nil)
)

// serve starts a program that serves a mount at dir; where in it the snapshot is, is the caller's to add.
func serve(s *server, err error, dir, at string) (mounted, error) {
	if err != nil {
		return mounted{}, errors.Join(err, detachBelow(dir))
	}
	return mounted{dir: at, end: func() error { return errors.Join(s.stop(), detachBelow(dir)) }}, nil
}

// detachBelow takes away what is mounted at or below a directory, the innermost first.
func detachBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, at := range slices.Backward(mountsBelow(string(text), dir)) {
		err = errors.Join(err, detach(at))
	}
	return err
}

func detach(at string) error {
	if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", at, err)
	}
	return nil
}

// mountsBelow lists the mount points at or below a directory in the order in which they were mounted, from the
// text of mountinfo (proc_pid_mountinfo(5)).
func mountsBelow(mountinfo, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var found []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if at := unescape.Replace(fields[4]); at == dir || strings.HasPrefix(at, dir+"/") {
			found = append(found, at)
		}
	}
	return found
}
