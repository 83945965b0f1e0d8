//go:build real

package kubo

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

func TestABlockThatNoPeerHasIsLookedForAsLongAsWasSaid(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	absent := blockstest.Raw([]byte("nobody's")).Cid()
	b := open(t, d, func(o *Options) { o.Offline, o.FetchTimeout = false, time.Second })

	began := time.Now()
	_, err := b.Get(t.Context(), absent)
	if took := time.Since(began); took < time.Second || took > 30*time.Second {
		t.Errorf("looked for %s, not for a second", took)
	}
	if !errors.Is(err, snapshot.ErrNotFetched) || !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("%v, want one that says that nobody has it", err)
	}

	ctx, done := context.WithTimeout(t.Context(), 3*time.Second)
	defer done()
	began = time.Now()
	_, err = b.Get(ctx, absent)
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("looked for %s, though the caller waits for 3s", took)
	}
	if !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("%v, want unavailable", err)
	}
}

func TestADaemonOnThisMachineIsAskedForItsRepositoryWhenItIsSynced(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d, func(o *Options) { o.Repo, o.Near = "", true })
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if repo, err := b.repository(t.Context()); err != nil || repo != d.Repo {
		t.Errorf("synced %q, %v, want %s", repo, err, d.Repo)
	}
	other := open(t, d, func(o *Options) { o.Repo, o.Near = "", true })
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Errorf("what is known is asked for again: %v", err)
	}
	if err := other.Sync(t.Context()); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("%v, though it is not known what to sync", err)
	}
}
