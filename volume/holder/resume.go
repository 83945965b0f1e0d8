package holder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/view"
	"github.com/volary/volary/volume"
)

// resume goes on with a mount of an earlier process. False means that there is nothing to go on with.
func (l *Lower) resume(ctx context.Context, s *tree.Snapshot, dir string, o volume.MountOptions) (bool, error) {
	c, was, err := l.held(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, detachDead(dir)
	}
	if err != nil {
		return false, err
	}
	if !following(o, was) && (was.Root != s.CID.String() || was.Options != lasting(o)) {
		c.Close()
		return false, otherMount(s, dir)
	}
	srv, err := view.Resume(ctx, s, c, l.viewOptions(o))
	if err != nil {
		return false, err
	}
	return true, l.serve(dir, newServed(srv, s.CID, o))
}

// ResumeAll goes on with everything that the holder has, whether it is still to be seen or not: who waits for answers of
// an earlier process gets them. What cannot be gone on with is in the error, and hinders nothing else.
func (l *Lower) ResumeAll(ctx context.Context, open func(ctx context.Context, root cid.Cid) (*tree.Snapshot, error)) error {
	if l.o.Holder == nil {
		return nil
	}
	dirs, err := l.o.Holder.List(ctx)
	errs := []error{err}
	for _, dir := range dirs {
		errs = append(errs, l.resumeHeld(ctx, dir, open))
	}
	return errors.Join(errs...)
}

func (l *Lower) resumeHeld(ctx context.Context, dir string, open func(context.Context, cid.Cid) (*tree.Snapshot, error)) error {
	defer l.lock(dir)()
	if was, _ := l.at(dir); was != nil {
		return nil
	}
	c, was, root, err := l.heldRoot(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s, err := open(ctx, root)
	if err != nil {
		c.Close()
		return fmt.Errorf("go on with what is mounted at %s: %w", dir, err)
	}
	srv, err := view.Resume(ctx, s, c, l.viewOptions(was.Options))
	if err != nil {
		return err
	}
	return l.serve(dir, newServed(srv, s.CID, was.Options))
}

// heldRoot is held, and what is shown there.
func (l *Lower) heldRoot(ctx context.Context, dir string) (c view.Connection, was heldMount, root cid.Cid, err error) {
	if c, was, err = l.held(ctx, dir); err != nil {
		return c, was, root, err
	}
	if root, err = cid.Decode(was.Root); err != nil {
		err = errors.Join(fmt.Errorf("what the holder has of %s: %w", dir, err), c.Close())
	}
	return c, was, root, err
}

// held gets a mount from the holder.
func (l *Lower) held(ctx context.Context, dir string) (c view.Connection, was heldMount, err error) {
	if l.o.Holder == nil {
		return c, was, fs.ErrNotExist
	}
	data, files, err := l.o.Holder.Get(ctx, dir)
	if err != nil {
		return c, was, err
	}
	if err = json.Unmarshal(data, &was); err == nil && len(files) != 2 {
		err = fmt.Errorf("the holder has %d files of %s, not 2", len(files), dir)
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return c, was, err
	}
	return view.Connection{Device: files[0], Table: files[1], Init: was.Init, Generations: was.Generations}, was, nil
}

// detachDead takes a mount away whose server is gone for good. What the kernel has of its files it goes on telling;
// how large it is it asks each time. Who asks while the server is ending waits for that, and gets another error.
func detachDead(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		return fmt.Errorf("something is mounted at %s that is not held: %w", dir, fs.ErrExist)
	}
	return unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}
