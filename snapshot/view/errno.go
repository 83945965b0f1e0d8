package view

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/volary/volary/snapshot"
)

// Keys of the log.
const (
	logError = "error"
	logPath  = "path"
	logRoot  = "root"
)

var errNotDir = errors.New("not a directory")

// errnos are what programs in the mount see of an error: the first that fits, or EIO.
var errnos = []struct {
	err error
	no  syscall.Errno
	log bool
}{
	{snapshot.ErrNotFound, syscall.EIO, true},
	{snapshot.ErrUnavailable, syscall.EIO, true},
	{snapshot.ErrDamaged, syscall.EIO, true},
	{snapshot.ErrFormat, syscall.EIO, true},
	{context.DeadlineExceeded, syscall.EIO, true},
	{errNoSlot, syscall.ESTALE, true},
	{errNotDir, syscall.ENOTDIR, false},
	{fs.ErrNotExist, syscall.ENOENT, false},
}

// status is the answer to a request that failed. The error says which block it was.
func (v *View) status(p place, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	no, log := syscall.EIO, true
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			no, log = e.no, e.log
			break
		}
	}
	if path := p.path(); log && v.base.Err() == nil && v.said.first(path+"\n"+err.Error()) {
		v.log.Error("cannot be read", logRoot, v.snap.CID, logPath, path, logError, err)
	}
	return fuse.Status(no)
}
