package view

import (
	"context"
	"encoding/binary"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

// FuzzRequests asks about numbers, names and offsets that nobody was told, as the kernel may after another server was
// there, or a process with the device. Each is answered; no answer is larger than there is room for.
func FuzzRequests(f *testing.F) {
	for _, id := range []uint64{0, 1, 2, 7, 1<<generationBit | 2, 2<<generationBit | 2, 300 << generationBit, slotBit, slotBit | 3, slotBit | 1<<placeLen, 1<<64 - 1} {
		for _, offset := range []uint64{0, 1, 3, 1 << 31, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
			f.Add(id, "a", offset, uint32(4096))
		}
	}
	f.Add(uint64(1), "..", uint64(2), uint32(0))
	f.Add(uint64(3), "user.x", uint64(1<<63-2), uint32(1<<32-1))
	b := tt.NewMemory()
	top := nested(3)
	sparse := tt.File(string(make([]byte, 20_000)) + "end").With(func(a *meta.Attr) {
		a.Sparse, a.Xattrs = true, []meta.Xattr{{Name: "user.x", Value: []byte("value")}}
	})
	top.Children["link"], top.Children["sparse"], top.Children["null"] = tt.Symlink("a/b"), sparse, tt.Special(meta.CharDevice, 0, 0)
	var views []*View
	for _, o := range []Options{{}, {Lower: true, Foreign: true}, {Path: "a"}} {
		views = append(views, viewWith(f, b, tt.Commit(f, b, top, meta.Hardlink{Path: "c/b", Leader: "a/b"}), table(f), o),
			viewWith(f, b, tt.Tree(f, b, top), table(f), o))
	}
	// What a foreign snapshot's entries are called is known once they were listed.
	for _, v := range views {
		_, err := v.dir(context.Background(), fuse.FUSE_ROOT_ID)
		must(f, err)
	}
	var sources []source
	for _, v := range views {
		sources = append(sources, v)
	}
	follows := followed(f, b)
	f.Fuzz(func(t *testing.T, id uint64, name string, offset uint64, size uint32) {
		size %= 1 << 17
		for _, v := range append(sources, follows) {
			x := &asked{t, v, fuse.InHeader{NodeId: id}}
			x.entry(name)
			x.list(offset, size)
			x.attributes(name, size)
			x.content(offset, size)
		}
	})
}

// followed is a mount that showed one snapshot before, which nobody uses any more, and one that somebody does.
func followed(t testing.TB, b *tt.Memory) *follower {
	t.Helper()
	dev, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(t, err)
	t.Cleanup(func() { dev.Close() })
	c := Connection{Device: dev, Table: table(t)}
	for i, n := range []tt.Node{nested(3), nested(2), nested(1)} {
		c.Generations = append(c.Generations, Generation{Number: i, Root: tt.Commit(t, b, n)})
	}
	s, err := tree.Open(context.Background(), b, c.Generations[0].Root)
	must(t, err)
	f, err := newFollower(context.Background(), s, c, Options{})
	must(t, err)
	t.Cleanup(f.finish)
	f.all[1].told.Add(1 << 40)
	f.tidy()
	return f
}

// asked asks a view about one number.
type asked struct {
	*testing.T
	v source
	h fuse.InHeader
}

// answered fails unless an answer is one that there is for what was asked.
func (x *asked) answered(what string, got fuse.Status, also ...fuse.Status) {
	x.Helper()
	also = append(also, fuse.OK, fuse.ENOENT, fuse.ENOTDIR, fuse.Status(syscall.ESTALE), fuse.ENOSYS)
	if !slices.Contains(also, got) {
		x.Errorf("%s of %#x: %v", what, x.h.NodeId, got)
	}
}

func (x *asked) entry(name string) {
	var e fuse.EntryOut
	status := x.v.Lookup(nil, &x.h, name, &e)
	x.answered("look-up", status)
	// Number 0 says that there is none of the name.
	if status.Ok() && (e.NodeId != e.Attr.Ino || e.NodeId != 0 && e.Attr.Mode&syscall.S_IFMT == 0) {
		x.Errorf("%q in %#x is %+v", name, x.h.NodeId, e)
	}
	var a fuse.AttrOut
	x.answered("attributes", x.v.GetAttr(nil, &fuse.GetAttrIn{InHeader: x.h}, &a))
	target, status := x.v.Readlink(nil, &x.h)
	x.answered("target", status, fuse.EINVAL)
	if status.Ok() && len(target) == 0 {
		x.Errorf("%#x is a link to nothing", x.h.NodeId)
	}
	var st fuse.StatfsOut
	x.answered("size", x.v.StatFs(nil, &x.h, &st))
}

func (x *asked) list(offset uint64, size uint32) {
	for what, list := range map[string]func(<-chan struct{}, *fuse.ReadIn, *fuse.DirEntryList) fuse.Status{
		"list": x.v.ReadDir, "list with attributes": x.v.ReadDirPlus,
	} {
		room := make([]byte, size)
		x.answered(what, list(nil, &fuse.ReadIn{InHeader: x.h, Offset: offset, Size: size}, fuse.NewDirEntryList(room, offset)))
	}
}

func (x *asked) attributes(name string, size uint32) {
	dest := make([]byte, size%300)
	for what, ask := range map[string]func() (uint32, fuse.Status){
		"attribute":  func() (uint32, fuse.Status) { return x.v.GetXAttr(nil, &x.h, name, dest) },
		"attributes": func() (uint32, fuse.Status) { return x.v.ListXAttr(nil, &x.h, dest) },
	} {
		n, status := ask()
		x.answered(what, status, fuse.ENOATTR, fuse.ERANGE)
		if status.Ok() && int(n) > len(dest) || status == fuse.ERANGE && int(n) <= len(dest) {
			x.Errorf("%s of %#x take %d of %d bytes: %v", what, x.h.NodeId, n, len(dest), status)
		}
	}
}

func (x *asked) content(offset uint64, size uint32) {
	for _, whence := range []uint32{0, 3, 4, 9} {
		var out fuse.LseekOut
		status := x.v.Lseek(nil, &fuse.LseekIn{InHeader: x.h, Offset: offset, Whence: whence}, &out)
		x.answered("seek", status, fuse.EINVAL, fuse.Status(syscall.ENXIO))
		if status.Ok() && out.Offset < offset {
			x.Errorf("seek in %#x from %d: %d", x.h.NodeId, offset, out.Offset)
		}
	}
	request := make([]byte, inHeader+readIn)
	binary.LittleEndian.PutUint64(request[16:], x.h.NodeId)
	binary.LittleEndian.PutUint64(request[inHeader+8:], offset)
	binary.LittleEndian.PutUint32(request[inHeader+16:], size)
	w := &worker{Server: &Server{shown: x.v}, out: make([]byte, maxRead+64<<10)}
	parts := w.read(request)
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	no := -int32(binary.LittleEndian.Uint32(parts[0][4:]))
	x.answered("read", fuse.Status(no), fuse.EINVAL, fuse.Status(syscall.EISDIR))
	if int(binary.LittleEndian.Uint32(parts[0])) != n || n > outHeader+int(size) {
		x.Errorf("read of %d bytes at %d of %#x: %d bytes", size, offset, x.h.NodeId, n)
	}
}
