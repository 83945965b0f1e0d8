package publish_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
)

// far is blocks of which only those are here that were got once.
type far struct {
	snapshot.Blocks
	away bool // nothing can be got

	mu   sync.Mutex
	here map[cid.Cid]bool
}

func (f *far) Has(_ context.Context, cs ...cid.Cid) ([]bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	has := make([]bool, len(cs))
	for i, c := range cs {
		has[i] = f.here[c]
	}
	return has, nil
}

func (f *far) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away && !f.here[c] {
		return nil, fmt.Errorf("block %s: %w", c, snapshot.ErrNotFetched)
	}
	f.here[c] = true
	return f.Blocks.Get(ctx, c)
}

func TestHeadsThatFollowEachOtherElsewhereAreNoForks(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	b.close()
	f := &far{Blocks: w.blocks, here: map[cid.Cid]bool{}}
	b.seen = f
	b.open()
	id := a.do(&volume.Create{Name: "data"}).Volume.ID
	key, err := namespace.ParseName(id)
	w.must(err)
	forks := func() int {
		v, err := b.table.Volume(key)
		w.must(err)
		return len(v.Forks)
	}
	b.learn()
	// So many that the first is not among those that the last one names itself.
	for i := range 2 * snapshot.MaxRecent {
		a.change("data", "f", fmt.Sprint(i))
	}
	f.away = true
	b.learn()
	if forks() == 0 {
		t.Fatal("it is known what comes after what, though nothing can be got")
	}
	f.away = false
	b.learn()
	if n := forks(); n != 0 {
		t.Errorf("%d states of one line are taken for forks", n)
	}
}
