package kubo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	caopts "github.com/ipfs/kubo/core/coreiface/options"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
)

const (
	// askAtOnce is how many questions for single blocks are under way.
	askAtOnce = 16
	// listFrom is how many questions are worth a look at the list of all blocks, and listPer how many entries of the
	// list cost as much as a question.
	listFrom = 64
	listPer  = 50
)

// Has implements [snapshot.Blocks]. For many blocks it reads the daemon's list of what it has, if that is not too long.
func (b *Blocks) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	has := make([]bool, len(cs))
	ask := map[string][]int{} // by multihash, the places of the answer
	for i, c := range cs {
		switch {
		case !c.Defined():
			return nil, fmt.Errorf("look up block: undefined CID: %w", snapshot.ErrFormat)
		case c.Prefix().MhType == mh.IDENTITY:
			has[i] = true
		default:
			if err := b.arrived(ctx, c); err != nil {
				return nil, err
			}
			ask[string(c.Hash())] = append(ask[string(c.Hash())], i)
		}
	}
	found := func(hash string) {
		for _, i := range ask[hash] {
			has[i] = true
		}
		delete(ask, hash)
	}
	if len(ask) >= listFrom {
		all, err := b.list(ctx, len(ask)*listPer, ask, found)
		if err != nil || all {
			return has, err
		}
	}
	return has, b.askEach(ctx, ask, found)
}

// list reads at most so many entries of the daemon's list, and reports whether those were all, or all that was asked
// for was found.
func (b *Blocks) list(ctx context.Context, most int, ask map[string][]int, found func(hash string)) (bool, error) {
	res, err := b.api.Request("refs/local").Send(b.inLines(ctx))
	if err == nil && res.Error != nil {
		err = res.Error
	}
	if err != nil {
		return false, b.fault("list blocks", err)
	}
	defer res.Cancel()
	lines := json.NewDecoder(res.Output)
	for range most {
		var line struct{ Ref, Err string }
		switch err := lines.Decode(&line); {
		case err == io.EOF:
			return true, nil
		case err != nil:
			return false, b.fault("list blocks", err)
		case line.Err != "":
			return false, b.fault("list blocks", errors.New(line.Err))
		}
		c, err := cid.Decode(line.Ref)
		if err != nil {
			return false, b.fault("list blocks", err)
		}
		if hash := string(c.Hash()); ask[hash] != nil {
			if found(hash); len(ask) == 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// askEach asks for single blocks, several at a time.
func (b *Blocks) askEach(ctx context.Context, ask map[string][]int, found func(hash string)) error {
	core, err := b.api.WithOptions(caopts.Api.Offline(true))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	hashes := make(chan string, len(ask))
	for hash := range ask {
		hashes <- hash
	}
	close(hashes)
	for range min(askAtOnce, len(ask)) {
		wg.Go(func() {
			for hash := range hashes {
				_, err := core.Block().Stat(ctx, path.FromCid(cid.NewCidV1(cid.Raw, mh.Multihash(hash))))
				if err = translate(err); err == nil {
					mu.Lock()
					found(hash)
					mu.Unlock()
				} else if !errors.Is(err, snapshot.ErrNotFound) {
					cancel(b.fault("look up block", err))
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
