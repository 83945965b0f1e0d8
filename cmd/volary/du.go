package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume/api"
)

func duCommand() *cli.Command {
	return command(cli.Command{
		Name:      "du",
		Usage:     "say what a snapshot, or a part of one, costs",
		ArgsUsage: "REF[/PATH]...",
		Description: "Unique bytes are those that no other kept snapshot needs: what removing this one would free. A block is\n" +
			"counted once however often the snapshot uses it. Of what other hosts have, the directories and what lists the parts of\n" +
			"large files come here to be counted, and contents do not: they count as large as what links to them says.",
		Action: du,
	}, 1, -1)
}

type duJSON struct {
	Ref    string `json:"ref"`
	CID    string `json:"cid"`
	Blocks uint64 `json:"blocks"`
	Bytes  uint64 `json:"bytes"`  // of its blocks
	Unique uint64 `json:"unique"` // of those that no other kept snapshot needs
	Shared uint64 `json:"shared"`
}

func du(c *cli.Context) error {
	host, err := openHost(c, readOnly)
	if err != nil {
		return err
	}
	defer host.Close()
	out := outputOf(c)
	for _, ref := range c.Args().Slice() {
		j, err := usage(c.Context, host.Host, ref)
		if err != nil {
			return err
		}
		if err := out.line(j, "%s  %s unique  %s shared  %s", bytesText(j.Bytes), bytesText(j.Unique), bytesText(j.Shared), quote(ref)); err != nil {
			return err
		}
	}
	return nil
}

// usage counts the blocks of a ref, then takes from the unique ones what other kept roots need. A part of a
// snapshot is compared with what is kept besides that snapshot.
func usage(ctx context.Context, host *api.Host, ref string) (duJSON, error) {
	j := duJSON{Ref: ref}
	t, err := openRef(ctx, host, ref)
	if err != nil {
		return j, err
	}
	e, err := t.entry(ctx)
	if err != nil {
		return j, err
	}
	root := t.root
	if t.path != "" {
		root = e.CID
	}
	if !root.Defined() {
		return j, usagef("%s is a %s and costs no blocks", quote(t.path), e.Type)
	}
	j.CID = root.String()
	sizes := map[cid.Cid]uint64{}
	from := &linked{Blocks: host.Blocks, sizes: map[cid.Cid]uint64{}}
	err = snapshot.WalkDAG(ctx, from, []cid.Cid{root}, func(c cid.Cid, blk blocks.Block, err error) error {
		if err != nil {
			return fmt.Errorf("read %s: %w", c, err)
		}
		n, known := from.size(c)
		if !known {
			n = uint64(len(blk.RawData()))
		}
		sizes[c] = n
		from.learn(blk)
		j.Blocks, j.Bytes = j.Blocks+1, j.Bytes+n
		return nil
	})
	if err != nil {
		return j, err
	}
	others, err := keptBesides(ctx, host, t.root)
	if err != nil {
		return j, err
	}
	j.Shared, err = shared(ctx, host.Blocks, others, sizes)
	j.Unique = j.Bytes - j.Shared
	return j, err
}

func keptBesides(ctx context.Context, host *api.Host, root cid.Cid) ([]cid.Cid, error) {
	var roots []cid.Cid
	for pin, err := range host.Pins.All(ctx) {
		if err != nil {
			return nil, err
		}
		if pin.Root != root {
			roots = append(roots, pin.Root)
		}
	}
	tags, err := host.Tags.Tags(ctx)
	for _, c := range tags {
		if c != root {
			roots = append(roots, c)
		}
	}
	return roots, err
}

// linked reads leaves as empty whose sizes what links to them says.
type linked struct {
	snapshot.Blocks
	mu    sync.Mutex
	sizes map[cid.Cid]uint64
}

func (l *linked) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if _, known := l.size(c); known {
		return blocks.NewBlockWithCid(nil, c)
	}
	return l.Blocks.Get(ctx, c)
}

func (l *linked) size(c cid.Cid) (n uint64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, known = l.sizes[c]
	return n, known
}

func (l *linked) learn(blk blocks.Block) {
	if blk.Cid().Prefix().Codec != cid.DagProtobuf {
		return
	}
	node, err := merkledag.DecodeProtobuf(blk.RawData())
	if err != nil {
		return // the walk says so
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, to := range node.Links() {
		// A size that no block can have is not believed, and the block is read. One that is in its CID says itself how large
		// it is.
		p := to.Cid.Prefix()
		if p.Codec == cid.Raw && p.MhType != mh.IDENTITY && to.Size > 0 && to.Size <= snapshot.MaxBlockSize {
			l.sizes[to.Cid] = to.Size
		}
	}
}

// nodes reads the leaves of a DAG as empty: to know what links to them, they need not be read.
type nodes struct{ snapshot.Blocks }

func (n nodes) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if c.Prefix().Codec == cid.Raw {
		return blocks.NewBlockWithCid(nil, c)
	}
	return n.Blocks.Get(ctx, c)
}

func shared(ctx context.Context, b snapshot.Blocks, roots []cid.Cid, sizes map[cid.Cid]uint64) (n uint64, err error) {
	err = snapshot.WalkDAG(ctx, nodes{b}, roots, func(c cid.Cid, _ blocks.Block, err error) error {
		n += sizes[c]
		delete(sizes, c)
		if errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrDamaged) {
			return nil // it needs what it links to no less, but nothing says what that is
		}
		return err
	})
	return n, err
}
