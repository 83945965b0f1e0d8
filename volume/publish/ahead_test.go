package publish_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
)

func rootsOf(t *testing.T, b blocks.Block) []cid.Cid {
	t.Helper()
	c, err := snapshot.DecodeCommit(b)
	if err != nil {
		t.Fatal(err)
	}
	return []cid.Cid{c.Tree, c.Meta}
}

func TestWhatIsHeardIsGotAheadAndAgainIfItCouldNotBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(), w.host()
		b.close()
		f := &far{Blocks: w.blocks, here: map[cid.Cid]bool{}}
		b.seen = f
		b.open()
		here := func(c cid.Cid) bool {
			synctest.Wait()
			has, err := f.Has(t.Context(), c)
			w.must(err)
			return has[0]
		}
		all := a.told()
		a.do(&volume.Create{Name: "before"})
		before := a.names()["before"]
		hear := func() {
			for _, n := range all() {
				_, err := b.heads.Hear(t.Context(), n)
				w.must(err)
			}
		}
		hear()
		if here(before) {
			t.Fatal("a commit that nobody got is here")
		}
		ctx, done := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { b.heads.Ahead(ctx) })
		if !here(before) {
			t.Error("what was heard before is not got")
		}
		all = a.told()
		a.do(&volume.Create{Name: "data"})
		state := a.change("data", "f", "1")
		hear()
		commit, err := w.blocks.Get(t.Context(), state)
		w.must(err)
		if !here(state) {
			t.Error("what is heard is not got")
		}
		for _, root := range rootsOf(t, commit) {
			if !here(root) {
				t.Errorf("%s is not got with the commit", root)
			}
		}
		f.mu.Lock()
		f.away = true
		f.mu.Unlock()
		all = a.told()
		state = a.change("data", "f", "2")
		hear()
		if here(state) {
			t.Fatal("what cannot be had is here")
		}
		f.mu.Lock()
		f.away = false
		f.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if !here(state) {
			t.Error("what could not be had is not tried again")
		}
		done()
		work.Wait()
		a.close()
		b.close()
	})
}
