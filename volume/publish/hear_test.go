package publish_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/volume"
)

// told notes all that a host does, until the function it returns is called.
func (h *host) told() (all func() []table.News) {
	ctx, done := context.WithCancel(h.t.Context())
	var mu sync.Mutex
	var news []table.News
	var work sync.WaitGroup
	work.Go(func() {
		h.heads.Own(ctx, func(n table.News) error {
			mu.Lock()
			defer mu.Unlock()
			news = append(news, n)
			return nil
		})
	})
	synctest.Wait()
	return func() []table.News {
		synctest.Wait()
		done()
		work.Wait()
		return news
	}
}

func TestWhatAHostDoesIsHeardByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(), w.host()
		all := a.told()
		a.do(&volume.Create{Name: "data"})
		state := a.change("data", "f", "1")
		a.do(&volume.Create{Name: "gone"})
		a.do(&volume.Remove{Name: "gone"})
		a.do(&volume.Create{Name: "old"})
		a.do(&volume.Rename{Name: "old", To: "new"})
		news := all()
		heardByB := b.told()
		moved := 0
		for _, n := range append(news, news...) {
			m, err := b.heads.Hear(t.Context(), n)
			w.must(err)
			moved += m
		}
		b.wantNames("data", "new")
		if got := b.names()["data"]; got != state {
			t.Errorf("data is at %s, not at %s", got, state)
		}
		if moved == 0 || moved > len(news) {
			t.Errorf("of %d news, told twice, volumes moved %d times", len(news), moved)
		}
		if n := heardByB(); len(n) > 0 {
			t.Errorf("what was heard is told on: %v", n)
		}
		a.close()
		b.close()
	})
}

func TestForksThatAreNoneAreSettledOnceTheirHistoryIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.host(), w.host()
		b.close()
		f := &far{Blocks: w.blocks, here: map[cid.Cid]bool{}, away: true}
		b.seen = f
		b.open()
		all := a.told()
		id := a.do(&volume.Create{Name: "data"}).Volume.ID
		a.change("data", "f", "1")
		a.change("data", "f", "2")
		for _, n := range all() {
			_, err := b.heads.Hear(t.Context(), n)
			w.must(err)
		}
		key, err := namespace.ParseName(id)
		w.must(err)
		forks := func() int {
			v, err := b.table.Volume(key)
			w.must(err)
			return len(v.Forks)
		}
		if forks() == 0 {
			t.Fatal("it is known what comes after what, though nothing can be got")
		}
		w.must(b.heads.Settle(t.Context()))
		f.away = false
		w.must(b.heads.Settle(t.Context()))
		if n := forks(); n != 0 {
			t.Errorf("%d states of one line are taken for forks", n)
		}
		a.close()
		b.close()
	})
}

func TestAVolumeWhoseStatesAreElsewhereIsRenamedForAll(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	a.do(&volume.Create{Name: "data"})
	a.change("data", "f", "1")
	b.close()
	b.seen = &far{Blocks: w.blocks, here: map[cid.Cid]bool{}, away: true}
	b.open()
	b.learn()
	b.do(&volume.Rename{Name: "data", To: "renamed"})
	a.learn()
	a.wantNames("renamed")
}

func TestTheStateOfAForkIsGotWhenItIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.host(), w.host(), w.host()
		b.close()
		f := &far{Blocks: w.blocks, here: map[cid.Cid]bool{}}
		b.seen = f
		b.open()
		all := a.told()
		a.do(&volume.Create{Name: "data"})
		for _, n := range all() {
			for _, h := range []*host{b, c} {
				_, err := h.heads.Hear(t.Context(), n)
				w.must(err)
			}
		}
		first, second := a.told(), c.told()
		states := []cid.Cid{a.change("data", "f", "a"), c.change("data", "f", "c")}
		for _, n := range append(first(), second()...) {
			_, err := b.heads.Hear(t.Context(), n)
			w.must(err)
		}
		has, err := f.Has(t.Context(), states...)
		w.must(err)
		if !has[0] || !has[1] {
			t.Errorf("of the states of both branches are here: %v", has)
		}
		a.close()
		b.close()
		c.close()
	})
}
