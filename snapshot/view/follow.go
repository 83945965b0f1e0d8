package view

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/volary/volary/snapshot/tree"
)

// What go-fuse does not export of the protocol.
const (
	notifyInvalInode = 2
	notifyEpoch      = 8 // since Linux 6.16
)

// notify tells the kernel something that it did not ask for. A mount that has ended meanwhile, and with it its device,
// is told nothing.
func notify(dev *os.File, what uint32, body []byte) error {
	b := make([]byte, outHeader, outHeader+len(body))
	binary.LittleEndian.PutUint32(b, uint32(outHeader+len(body)))
	binary.LittleEndian.PutUint32(b[4:], what)
	raw, err := dev.SyscallConn()
	if err != nil {
		return err
	}
	told := raw.Control(func(fd uintptr) { _, err = syscall.Write(int(fd), append(b, body...)) })
	return cmp.Or(told, err)
}

// attributesOfRoot has the kernel ask for the root's attributes again.
func attributesOfRoot(dev *os.File) {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[:], fuse.FUSE_ROOT_ID)
	binary.LittleEndian.PutUint64(b[8:], 1<<64-1) // no content
	notify(dev, notifyInvalInode, b[:])           // it may not know them
}

// Follow has a mount made with Options.Follow show another snapshot of the same blocks, whose root is read first. Who
// looks a name up from the mount's root on after that finds what the snapshot has; who began before stays with the one
// before, to the end of the path. Files and directories that are open go on showing what they showed, but for the root.
// keep is given what it takes to go on with the mount before anybody is told of the snapshot. One that is shown already
// is no error.
func (s *Server) Follow(ctx context.Context, next *tree.Snapshot, keep func(Connection) error) error {
	f, ok := s.shown.(*follower)
	if !ok {
		return errors.New("what is mounted cannot show another snapshot")
	}
	f.tidy()
	f.turn.Lock()
	defer f.turn.Unlock()
	switch over, is := f.shows(next.CID); {
	case over:
		return os.ErrClosed
	case is:
		return nil
	}
	g, err := f.next(ctx, next)
	if err != nil {
		return err
	}
	if keep != nil {
		c := s.conn
		c.Generations = append([]Generation{g.Generation}, f.generations()...)
		if err := keep(c); err != nil {
			g.end()
			return err
		}
	}
	// Whoever asks for a name in the root meanwhile waits: what the kernel knows of it goes in the same step.
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[g.Number], f.current = g, g
	s.renewed(f)
	return nil
}

// renewed tells the kernel that what it knows of the root is not so any more.
func (s *Server) renewed(f *follower) {
	if f.fresh {
		notify(s.conn.Device, notifyEpoch, nil)
	}
	attributesOfRoot(s.conn.Device)
}

// Generations are the snapshots that can still be read through a mount made with Options.Follow, the one that it shows
// first; none of another mount.
func (s *Server) Generations() []Generation {
	if f, ok := s.shown.(*follower); ok {
		return f.generations()
	}
	return nil
}

// Lookup implements [fuse.RawFileSystem].
func (f *follower) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return f.ask(h, func(v *View) fuse.Status { return v.Lookup(cancel, h, name, out) })
}

// ask has the view that an entry is in answer.
func (f *follower) ask(h *fuse.InHeader, answer func(v *View) fuse.Status) fuse.Status {
	v, local, done, err := f.find(h.NodeId)
	if err != nil {
		return f.failed(err)
	}
	defer done()
	asked := h.NodeId
	h.NodeId = local
	s := answer(v)
	h.NodeId = asked
	return s
}

func (f *follower) failed(err error) fuse.Status {
	if errors.Is(err, errNoSlot) {
		return fuse.Status(syscall.ESTALE)
	}
	if f.o.Logger != nil && f.ctx.Err() == nil {
		f.o.Logger.Error("a state that was shown before cannot be read", logError, err)
	}
	return fuse.EIO
}

// Forget implements [fuse.RawFileSystem].
func (f *follower) Forget(id, times uint64) {
	if id == fuse.FUSE_ROOT_ID || id>>generationBit >= maxGenerations {
		return
	}
	f.untold(int(id>>generationBit), times)
}

func (f *follower) untold(n int, times uint64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	g := f.all[n]
	if g == nil || f.ended {
		return
	}
	if left := g.told.Add(-int64(times)); left <= 0 && g != f.current {
		f.work.Go(f.tidy)
	}
}

// answered has counted what the kernel lets go of with a request, once it has taken the answer: else it asks again.
func (f *follower) answered(op uint32, request, answer []byte, taken bool) {
	switch {
	case !taken:
		f.takeBack(op, answer)
	case op == opReleaseDir && len(request) >= inHeader+8:
		f.released(binary.LittleEndian.Uint64(request[inHeader:]))
	}
}

// takeBack has what an answer tells forgotten that the kernel did not take.
func (f *follower) takeBack(op uint32, answer []byte) {
	const entryLen, direntLen = 128, 24
	if len(answer) < outHeader+8 || binary.LittleEndian.Uint32(answer[4:]) != 0 {
		return
	}
	forget := func(id uint64) {
		if id != 0 {
			f.Forget(id, 1)
		}
	}
	switch body := answer[outHeader:]; op {
	case opLookup:
		forget(binary.LittleEndian.Uint64(body))
	case opOpenDir:
		f.released(binary.LittleEndian.Uint64(body))
	case opReadDirPlus:
		for len(body) >= entryLen+direntLen {
			forget(binary.LittleEndian.Uint64(body))
			name := int(binary.LittleEndian.Uint32(body[entryLen+16:]))
			body = body[min((entryLen+direntLen+name+7)&^7, len(body)):]
		}
	}
}

// GetAttr implements [fuse.RawFileSystem].
func (f *follower) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.ask(&in.InHeader, func(v *View) fuse.Status { return v.GetAttr(cancel, in, out) })
}

// Readlink implements [fuse.RawFileSystem].
func (f *follower) Readlink(cancel <-chan struct{}, h *fuse.InHeader) (target []byte, s fuse.Status) {
	s = f.ask(h, func(v *View) (s fuse.Status) { target, s = v.Readlink(cancel, h); return s })
	return target, s
}

// Open implements [fuse.RawFileSystem]: as View.
func (f *follower) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

// Flush implements [fuse.RawFileSystem]: as View.
func (f *follower) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// OpenDir implements [fuse.RawFileSystem]. Who lists the root stays with the generation that it is of, which the handle
// names; the kernel keeps nothing of that. Other directories never change.
func (f *follower) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.NodeId != fuse.FUSE_ROOT_ID {
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
		return fuse.OK
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.ended {
		return fuse.EIO
	}
	f.current.told.Add(1)
	out.Fh = uint64(f.current.Number) + 1
	return fuse.OK
}

// released notes that who listed the root with a handle is done.
func (f *follower) released(handle uint64) {
	if handle > 0 && handle <= maxGenerations {
		f.untold(int(handle)-1, 1)
	}
}

// ReadDir implements [fuse.RawFileSystem].
func (f *follower) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(v *View) fuse.Status { return v.ReadDir(cancel, in, out) })
}

// ReadDirPlus implements [fuse.RawFileSystem].
func (f *follower) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(v *View) fuse.Status { return v.ReadDirPlus(cancel, in, out) })
}

// list is ask of a directory that is open.
func (f *follower) list(in *fuse.ReadIn, answer func(v *View) fuse.Status) fuse.Status {
	if in.NodeId != fuse.FUSE_ROOT_ID || in.Fh == 0 || in.Fh > maxGenerations {
		return f.ask(&in.InHeader, answer)
	}
	f.mu.RLock()
	v, _, done, err := f.use(f.all[int(in.Fh)-1], in.NodeId)
	if err != nil {
		return f.failed(err)
	}
	defer done()
	return answer(v)
}

// StatFs implements [fuse.RawFileSystem].
func (f *follower) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return f.ask(h, func(v *View) fuse.Status { return v.StatFs(cancel, h, out) })
}

// GetXAttr implements [fuse.RawFileSystem].
func (f *follower) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (n uint32, s fuse.Status) {
	s = f.ask(h, func(v *View) (s fuse.Status) { n, s = v.GetXAttr(cancel, h, name, dest); return s })
	return n, s
}

// ListXAttr implements [fuse.RawFileSystem].
func (f *follower) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (n uint32, s fuse.Status) {
	s = f.ask(h, func(v *View) (s fuse.Status) { n, s = v.ListXAttr(cancel, h, dest); return s })
	return n, s
}

// Lseek implements [fuse.RawFileSystem].
func (f *follower) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	return f.ask(&in.InHeader, func(v *View) fuse.Status { return v.Lseek(cancel, in, out) })
}

// String implements [fuse.RawFileSystem].
func (f *follower) String() string { return "volary" }
