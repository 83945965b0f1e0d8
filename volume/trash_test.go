package volume_test

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// TestWhatIsTakenBackWhileTheTrashIsEmptiedIsWholeOrGone removes volumes whose time is over at once, and takes them
// back while they are let go of.
func TestWhatIsTakenBackWhileTheTrashIsEmptiedIsWholeOrGone(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	back, gone := 0, 0
	for range 60 {
		h.do(&volume.Create{Name: "data", Options: map[string]string{"trash": "0s"}})
		h.write(filepath.Join(h.do(&volume.Mount{Name: "data"}).Path, "a"), "1")
		h.do(&volume.Remove{Name: "data", Force: true})
		var work sync.WaitGroup
		work.Go(func() { h.Start(t.Context()) })
		_, err := h.Do(t.Context(), &volume.Undelete{Name: "data"})
		work.Wait()
		if errors.Is(err, volume.ErrNotFound) {
			gone++
			continue
		}
		h.must(err)
		back++
		h.collect()
		h.wantFiles("data", files{"a": "1"})
		h.do(&volume.Remove{Name: "data"})
		h.must(h.Start(t.Context()))
	}
	t.Logf("%d taken back, %d gone", back, gone)
}

func TestWhatWasPartlyLetGoOfIsKeptAgainWhenItIsTakenBack(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	h.write(filepath.Join(h.do(&volume.Mount{Name: "data"}).Path, "a"), "1")
	h.do(&volume.Remove{Name: "data", Force: true})
	for p, err := range h.pins.All(t.Context()) {
		h.must(err)
		h.must(h.pins.Remove(t.Context(), p.Root, p.Owner))
	}
	h.do(&volume.Undelete{Name: "data"})
	h.collect()
	h.wantFiles("data", files{"a": "1"})

	h.do(&volume.Remove{Name: "data"})
	for p, err := range h.pins.All(t.Context()) {
		h.must(err)
		h.must(h.pins.Remove(t.Context(), p.Root, p.Owner))
	}
	h.collect()
	h.refused(&volume.Undelete{Name: "data"}, snapshot.ErrNotFound)
	h.refused(&volume.Mount{Name: "data"}, volume.ErrNotFound)
}

func (h *host) collect() {
	h.t.Helper()
	_, err := h.pins.Collect(h.t.Context(), local.CollectOptions{})
	h.must(err)
}
