package volume_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// reserved is the size of the reserve, -1 if there is none.
func (h *host) reserved() int64 {
	fi, err := os.Stat(filepath.Join(h.dir, "volumes", "reserve"))
	if err != nil {
		return -1
	}
	return fi.Size()
}

func TestTheReserveIsAsLargeAsTheLastStartSays(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	for _, size := range []uint64{1 << 20, 2 << 20, 2 << 20, 0, 1 << 20} {
		h.reserve = size
		h.restart()
		want := int64(size)
		if size == 0 {
			want = -1
		}
		if got := h.reserved(); got != want {
			t.Errorf("%d bytes are reserved, not %d", got, want)
		}
	}
	h.reserve = 1 << 60
	h.restart()
	if got := h.reserved(); got != -1 {
		t.Errorf("%d bytes are reserved on a disk that has no room for them", got)
	}
}

func TestOnAFullDiskTheReserveFinishesWhatWasBegunOnce(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.reserve = 1 << 20
	h.restart()
	full := func(label string) {
		h.step = func(l string) error {
			if l == label && h.reserved() >= 0 {
				return syscall.ENOSPC
			}
			return nil
		}
	}
	full(volume.StepStore)
	h.refused(&volume.Create{Name: "data"}, syscall.ENOSPC)
	if h.reserved() < 0 {
		t.Error("the reserve was used to begin something")
	}
	h.step = nil
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	for _, c := range []struct {
		label string
		op    volume.Operation
	}{
		{volume.StepPin, &volume.Commit{Name: "data"}},
		{volume.StepHead, &volume.Commit{Name: "data"}},
		{volume.StepUsers, &volume.Unmount{Name: "data"}},
	} {
		h.write(filepath.Join(dir, c.label), "1")
		full(c.label)
		h.do(c.op)
		if h.reserved() >= 0 {
			t.Errorf("%s: the reserve is still there", c.label)
		}
		h.must(h.Start(t.Context()))
	}
	h.wantFiles("data", files{volume.StepPin: "1", volume.StepHead: "1", volume.StepUsers: "1"})

	h.step = nil
	h.write(filepath.Join(h.do(&volume.Mount{Name: "data"}).Path, "late"), "1")
	h.step = func(string) error { return syscall.ENOSPC }
	h.refused(&volume.Commit{Name: "data"}, syscall.ENOSPC)
	h.step = nil
	h.do(&volume.Unmount{Name: "data"})
	if got := h.files("data"); got["late"] != "1" {
		t.Errorf("after there was room again: %v", got)
	}
}
