package kubo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// namePrefix begins the names of pins that keep commits; the host and the purpose follow.
const namePrefix = "volary/keep/"

// Keep pins a commit, with all that it reaches, for one purpose of one host. It returns once the daemon has looked at
// every block. Of one that is missing, and that no peer gives it in time, the error wraps
// [snapshot.ErrUnavailable]; then nothing is pinned. To keep what is kept is no error. What Keep returned from was
// synced as Sync does it: a pin of which the power took the node would stop the daemon's collection for good.
func (b *Blocks) Keep(ctx context.Context, k Keep) error {
	node, err := k.Encode()
	if err != nil {
		return err
	}
	begin := time.Now()
	for deadline := begin.Add(b.o.LockTimeout); ; {
		if err := b.importBlocks(ctx, []blocks.Block{node}); err != nil {
			return err
		}
		err := b.pin(ctx, node.Cid(), namePrefix+k.Host+"/"+k.Purpose)
		// The daemon has not begun. It waits for the end of a collection, or that has taken the node away.
		if errors.Is(err, errNotBegun) && time.Now().Before(deadline) {
			b.waiting("pin/add", time.Since(begin))
			continue
		}
		if err == nil {
			return b.Sync(ctx)
		}
		if ctx.Err() == nil {
			err = errors.Join(err, b.incomplete(ctx, k.Commit))
		}
		return err
	}
}

// KeepAfter is Keep of a commit that has much in common with another, which is kept for the same purpose, and stays so
// until KeepAfter returns: the daemon looks only at what differs. Without that other it is Keep.
func (b *Blocks) KeepAfter(ctx context.Context, k Keep, other cid.Cid) error {
	from, err := Keep{k.Host, k.Purpose, other}.Encode()
	if err != nil {
		return b.Keep(ctx, k)
	}
	to, err := k.Encode()
	if err != nil {
		return err
	}
	if err := b.importBlocks(ctx, []blocks.Block{to}); err != nil {
		return err
	}
	limited, done := context.WithTimeout(ctx, b.o.FetchTimeout)
	defer done()
	err = b.api.Request("pin/update", from.Cid().String(), to.Cid().String()).Option("unpin", false).
		Exec(limited, &struct{}{})
	if err != nil && ctx.Err() == nil {
		// It may be kept already, or the other is not, or something is missing: Keep finds out.
		return b.Keep(ctx, k)
	}
	if err != nil {
		return b.fault("pin "+to.Cid().String(), err)
	}
	return b.Sync(ctx)
}

// Release removes what Keep pinned; what is not kept is released already.
func (b *Blocks) Release(ctx context.Context, k Keep) error {
	node, err := k.Encode()
	if err != nil {
		return err
	}
	cs, err := b.pinned(ctx, namePrefix+k.Host+"/"+k.Purpose)
	if err != nil {
		return err
	}
	for _, c := range cs {
		if c.Equals(node.Cid()) {
			return b.unpin(ctx, c)
		}
	}
	return nil
}

// Kept yields what is kept in the daemon, by any host.
func (b *Blocks) Kept(ctx context.Context) iter.Seq2[Keep, error] {
	return func(yield func(Keep, error) bool) {
		cs, err := b.pinned(ctx, namePrefix)
		if err != nil {
			yield(Keep{}, err)
			return
		}
		for _, c := range cs {
			blk, err := b.Get(ctx, c)
			var k Keep
			if err == nil {
				k, err = DecodeKeep(blk)
			}
			if errors.Is(err, snapshot.ErrFormat) {
				continue // somebody else's pin of a name that begins like ours
			}
			if !yield(k, err) || err != nil {
				return
			}
		}
	}
}

// pinned lists the recursive pins of dag-cbor nodes whose names begin with prefix.
func (b *Blocks) pinned(ctx context.Context, prefix string) ([]cid.Cid, error) {
	res, err := b.api.Request("pin/ls").Option("type", "recursive").Option("stream", true).Option("names", true).
		Option("name", prefix).Send(b.inLines(ctx))
	if err == nil && res.Error != nil {
		err = res.Error
	}
	if err != nil {
		return nil, b.fault("list pins", err)
	}
	defer res.Cancel()
	var cs []cid.Cid
	for lines := json.NewDecoder(res.Output); ; {
		var line struct{ Cid, Name string }
		err := lines.Decode(&line)
		if err == io.EOF {
			return cs, nil
		}
		var c cid.Cid
		if err == nil {
			c, err = cid.Decode(line.Cid)
		}
		if err != nil {
			return nil, b.fault("list pins", err)
		}
		if strings.HasPrefix(line.Name, prefix) && c.Prefix().Codec == cid.DagCBOR {
			cs = append(cs, c)
		}
	}
}

// errNotBegun says that a daemon did not begin to pin.
var errNotBegun = unavailable{errors.New("it did not begin to pin")}

// pin pins one node with all below it. The daemon says twice a second how many blocks it has looked at; when that
// stays the same there is one that it cannot find.
func (b *Blocks) pin(ctx context.Context, c cid.Cid, name string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var looked atomic.Int64
	stalled := time.AfterFunc(b.o.FetchTimeout, func() {
		if looked.Load() == 0 {
			cancel(errNotBegun)
		} else {
			cancel(unavailable{fmt.Errorf("no progress for %s", b.o.FetchTimeout)})
		}
	})
	defer stalled.Stop()
	err := b.pinProgress(ctx, c, name, func(n int64) {
		if looked.Swap(n) != n {
			stalled.Reset(b.o.FetchTimeout)
		}
	})
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return b.fault("pin "+c.String(), err)
	}
	return nil
}

func (b *Blocks) pinProgress(ctx context.Context, c cid.Cid, name string, progress func(blocks int64)) error {
	res, err := b.api.Request("pin/add", c.String()).Option("name", name).Option("progress", true).
		Option("fast-provide-root", false).Send(withBounds(withPatience(ctx, b.o.LockTimeout), bounds{bytes: maxLines, lines: true}))
	if err == nil && res.Error != nil {
		err = res.Error
	}
	if err != nil {
		return err
	}
	defer res.Cancel()
	lines := json.NewDecoder(res.Output)
	for {
		var line struct {
			Pins     []string
			Progress int64
		}
		if err := lines.Decode(&line); err != nil || len(line.Pins) > 0 {
			return err
		}
		progress(line.Progress)
	}
}

// incomplete names a block that the daemon lacks of what root reaches; nil if it lacks none.
func (b *Blocks) incomplete(ctx context.Context, root cid.Cid) error {
	err := b.api.Request("dag/stat", root.String()).Option("offline", true).Option("progress", false).Exec(ctx, &struct{}{})
	if err == nil {
		return nil
	}
	return b.fault("look for what is missing of "+root.String(), err)
}

func (b *Blocks) unpin(ctx context.Context, c cid.Cid) error {
	err := b.api.Request("pin/rm", c.String()).Exec(withPatience(ctx, b.o.LockTimeout), &struct{}{})
	if err != nil {
		return b.fault("unpin "+c.String(), err)
	}
	return nil
}
