//go:build real

package kept

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

func TestADaemonStartsAfterAPowerCutDuringALongSession(t *testing.T) {
	disk := disktest.New(t, 256<<20)
	d, err := kubotest.Init(t.Context(), filepath.Join(disk.Mount, "ipfs"), kubotest.Options{})
	must(t, err)
	must(t, d.Start(t.Context()))
	t.Cleanup(func() { must(t, d.Stop()) })
	x, err := open(t, d, "host").Session(t.Context())
	must(t, err)
	// So many that MFS is flushed in between.
	for i := range 130 {
		must(t, x.Session.Put(t.Context(), blockstest.Random(uint64(i), 1, 100)...))
	}
	must(t, disktest.Cut(disk.Mount, disktest.NoLogFlush))
	must(t, d.Kill())
	disk.Remount(t)
	must(t, d.Start(t.Context()))
	run(t, d, "repo", "gc", "--quiet")
}

func TestWhatIsPinnedSurvivesAPowerCutOfTheDaemonsDisk(t *testing.T) {
	disk := disktest.New(t, 256<<20)
	d, err := kubotest.Init(t.Context(), filepath.Join(disk.Mount, "ipfs"), kubotest.Options{})
	must(t, err)
	must(t, d.Start(t.Context()))
	t.Cleanup(func() { must(t, d.Stop()) })
	h := open(t, d, "host")
	x, err := h.Session(t.Context())
	must(t, err)
	must(t, x.Put(t.Context(), raw(1)))
	must(t, x.Sync(t.Context()))
	must(t, h.Add(t.Context(), pinset.Pin{Root: raw(1).Cid(), Created: time.Now()}))

	must(t, disktest.Cut(disk.Mount, disktest.NoLogFlush))
	must(t, d.Kill())
	disk.Remount(t)
	must(t, d.Start(t.Context()))
	h = open(t, d, "host")
	run(t, d, "repo", "gc", "--quiet")
	if has, err := h.Has(t.Context(), raw(1).Cid()); err != nil || !has[0] {
		t.Errorf("what was pinned is gone: %v, %v", has, err)
	}
	must(t, h.Add(t.Context(), pinset.Pin{Root: raw(1).Cid(), Created: time.Now()}))
}
