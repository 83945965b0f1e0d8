package kubo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

const (
	probeBlock = 1 << 20
	// probeRemoval is how long a daemon may take to remove what a measurement put.
	probeRemoval = 10 * time.Second
)

// Speed is what was measured of a daemon.
type Speed struct {
	Bytes   int
	In, Out time.Duration // to put them, and to get them back
}

// Measure puts blocks of random bytes, about size of them, gets them back and removes them. If the daemon cannot be
// told to remove them, it collects them as what nobody keeps.
func (b *Blocks) Measure(ctx context.Context, size int) (s Speed, err error) {
	var bs []blocks.Block
	var cs []cid.Cid
	for n := 0; n < max(size, 1); n += probeBlock {
		blk, err := RandomBlock(min(probeBlock, max(size, 1)))
		if err != nil {
			return s, err
		}
		bs, cs, s.Bytes = append(bs, blk), append(cs, blk.Cid()), s.Bytes+len(blk.RawData())
	}
	defer func() {
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), probeRemoval)
		defer done()
		err = errors.Join(err, b.Forget(ctx, cs...))
	}()
	begin := time.Now()
	if err := b.Put(ctx, bs...); err != nil {
		return s, err
	}
	s.In = time.Since(begin)
	begin = time.Now()
	for _, err := range b.GetMany(ctx, cs...) {
		if err != nil {
			return s, err
		}
	}
	s.Out = time.Since(begin)
	return s, nil
}

// RandomBlock makes a raw block that nobody has.
func RandomBlock(size int) (blocks.Block, error) {
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		return nil, fmt.Errorf("make a block: %w", err)
	}
	c, err := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: -1}.Sum(data)
	if err != nil {
		return nil, fmt.Errorf("make a block: %w", err)
	}
	return blocks.NewBlockWithCid(data, c)
}

// Forget removes blocks from the daemon's datastore; those that are not there are removed already. It fails on one
// that is pinned.
func (b *Blocks) Forget(ctx context.Context, cs ...cid.Cid) error {
	for _, c := range cs {
		var removed struct{ Hash, Error string }
		if err := b.api.Request("block/rm", c.String()).Option("force", true).Exec(ctx, &removed); err != nil {
			return b.fault("remove block "+c.String(), err)
		}
		if removed.Error != "" {
			return b.fault("remove block "+c.String(), errors.New(removed.Error))
		}
	}
	return nil
}

// Date is what the daemon's clock says, in whole seconds; zero if it does not say.
func (b *Blocks) Date(ctx context.Context) (t time.Time, _ error) {
	if err := b.api.Request("version").Exec(withClock(ctx, &t), &struct{}{}); err != nil {
		return t, b.fault("ask for the time", err)
	}
	return t, nil
}

// SwarmPeers counts the peers that the daemon is connected to.
func (b *Blocks) SwarmPeers(ctx context.Context) (int, error) {
	var swarm struct{ Peers []json.RawMessage }
	if err := b.api.Request("swarm/peers").Exec(ctx, &swarm); err != nil {
		return 0, b.fault("list the swarm's peers", err)
	}
	return len(swarm.Peers), nil
}

// Syncs reports whether all of the daemon's datastore is set to sync what it writes, so that it survives a power cut.
func (b *Blocks) Syncs(ctx context.Context) (bool, error) {
	var config struct{ Datastore struct{ Spec any } }
	if err := b.api.Request("config/show").Exec(ctx, &config); err != nil {
		return false, b.fault("read the configuration", err)
	}
	return syncs(config.Datastore.Spec), nil
}

// syncs looks for a part of a datastore's specification that says it does not sync.
func syncs(spec any) bool {
	switch spec := spec.(type) {
	case map[string]any:
		if s, ok := spec["sync"].(bool); ok && !s {
			return false
		}
		if s, ok := spec["syncWrites"].(bool); ok && !s {
			return false
		}
		for _, v := range spec {
			if !syncs(v) {
				return false
			}
		}
	case []any:
		for _, v := range spec {
			if !syncs(v) {
				return false
			}
		}
	}
	return true
}
