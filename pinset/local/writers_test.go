package local_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot/store"
)

// A writer that keeps to session, put, sync, pin, close must never lose a block, however the collections fall.
func TestCollectionsTakeNothingFromWritersAtWork(t *testing.T) {
	st, set := open(t, t.TempDir())
	shared := dag(t, 99)
	ctx, stop := context.WithCancel(t.Context())
	var collector sync.WaitGroup
	collector.Go(func() {
		for ctx.Err() == nil {
			if _, err := set.Collect(ctx, local.CollectOptions{}); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	var writers sync.WaitGroup
	for g := range 3 {
		writers.Go(func() {
			for i := range 15 {
				if err := writeOnce(t, st, set, shared, uint64(1000*g+i)); err != nil {
					t.Errorf("writer %d, round %d: %v", g, i, err)
					return
				}
			}
		})
	}
	writers.Wait()
	stop()
	collector.Wait()
}

// writeOnce stores a DAG over the shared one, which is found or put as the collections left it, pins it, looks
// that all is there, and unpins it.
func writeOnce(t *testing.T, st *store.Store, set *local.Set, shared []blocks.Block, seed uint64) error {
	ctx := t.Context()
	own := dag(t, seed+1)
	top := node(t, own[len(own)-1], shared[len(shared)-1])
	x, err := st.Session(ctx)
	if err != nil {
		return err
	}
	defer x.Close()
	adopted, err := x.Adopt(ctx, []cid.Cid{root(shared)})
	if err != nil {
		return err
	}
	if !adopted[0] {
		if err := x.Put(ctx, shared...); err != nil {
			return err
		}
		recs := []store.StatRecord{{Key: []byte("shared"), Value: []byte("v"), Roots: []cid.Cid{root(shared)}}}
		if err := x.SaveStat(ctx, recs); err != nil {
			return err
		}
	}
	if err := x.Put(ctx, append(own, top)...); err != nil {
		return err
	}
	if err := x.Sync(ctx); err != nil {
		return err
	}
	if err := set.Add(ctx, pinset.Pin{Root: top.Cid()}); err != nil {
		return err
	}
	if err := x.Close(); err != nil {
		return err
	}
	for _, b := range append(append(own, top), shared...) {
		if _, err := st.Get(ctx, b.Cid()); err != nil {
			return err
		}
	}
	return set.Remove(ctx, top.Cid(), "")
}

// latecomer adds a pin and a tag after the collection has looked for such, and before it removes.
type latecomer struct {
	*store.Sweep
	add func() error
}

func (l latecomer) Remove(ctx context.Context, dryRun bool, last func(context.Context) (bool, error)) (kept, removed local.Usage, err error) {
	if err := l.add(); err != nil {
		return kept, removed, err
	}
	return l.Sweep.Remove(ctx, dryRun, last)
}

func TestWhatIsPinnedOrTaggedDuringACollectionStays(t *testing.T) {
	st, _ := open(t, t.TempDir())
	pinned, tagged, loose := dag(t, 1), dag(t, 2), dag(t, 3)
	put(t, st, pinned...)
	put(t, st, tagged...)
	put(t, st, loose...)
	var set *local.Set
	set = local.New(st, func(ctx context.Context) (latecomer, error) {
		sw, err := st.BeginSweep(ctx)
		return latecomer{sw, func() error {
			return errors.Join(set.Add(ctx, pinset.Pin{Root: root(pinned)}), set.Tag(ctx, "t", root(tagged)))
		}}, err
	})
	collect(t, set)
	wantWhole(t, st, pinned)
	wantWhole(t, st, tagged)
	wantGone(t, st, loose)
}
