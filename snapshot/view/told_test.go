package view

import (
	"encoding/binary"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	tt "github.com/volary/volary/snapshot/tree/treetest"
)

func TestWhatTheKernelDidNotTakeIsNotCounted(t *testing.T) {
	f := followed(t, tt.NewMemory())
	root := fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}
	var dir fuse.EntryOut
	if s := f.Lookup(nil, &root, "a", &dir); !s.Ok() || dir.NodeId == 0 {
		t.Fatalf("look-up: %v, %+v", s, dir)
	}
	told := &f.current.told
	for op, ask := range map[uint32]func() (fuse.Status, []byte){
		opLookup: func() (fuse.Status, []byte) {
			var e fuse.EntryOut
			s := f.Lookup(nil, &root, "b", &e)
			return s, binary.LittleEndian.AppendUint64(nil, e.NodeId)
		},
		opOpenDir: func() (fuse.Status, []byte) {
			var o fuse.OpenOut
			s := f.OpenDir(nil, &fuse.OpenIn{InHeader: root}, &o)
			return s, binary.LittleEndian.AppendUint64(nil, o.Fh)
		},
		opReadDirPlus: func() (fuse.Status, []byte) {
			room := make([]byte, 4096)
			s := f.ReadDirPlus(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dir.NodeId}, Size: 4096}, fuse.NewDirEntryList(room, 0))
			return s, room
		},
	} {
		before := (*told).Load()
		s, body := ask()
		if now := (*told).Load(); !s.Ok() || now == before {
			t.Errorf("operation %d: %v, told %d, then %d", op, s, before, now)
		}
		f.takeBack(op, append(make([]byte, outHeader), body...))
		if now := (*told).Load(); now != before {
			t.Errorf("operation %d: after nothing of it was taken %d are told, and were %d", op, now, before)
		}
	}
	// What is closed is closed once, however often the kernel asks for it.
	var o fuse.OpenOut
	if s := f.OpenDir(nil, &fuse.OpenIn{InHeader: root}, &o); !s.Ok() {
		t.Fatal(s)
	}
	request := binary.LittleEndian.AppendUint64(make([]byte, inHeader), o.Fh)
	before := (*told).Load()
	f.answered(opReleaseDir, request, make([]byte, outHeader), false)
	if now := (*told).Load(); now != before {
		t.Errorf("nothing was closed, and %d are told, after %d", now, before)
	}
	if f.answered(opReleaseDir, request, make([]byte, outHeader), true); (*told).Load() != before-1 {
		t.Errorf("what was closed left %d told, after %d", (*told).Load(), before)
	}
	before = (*told).Load()
	f.takeBack(opLookup, make([]byte, outHeader+128)) // there is no such name
	if now := (*told).Load(); now != before {
		t.Errorf("%d are told, and were %d", now, before)
	}
}
