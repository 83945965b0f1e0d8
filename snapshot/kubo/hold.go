package kubo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	ft "github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipfs/kubo/client/rpc"
	mh "github.com/multiformats/go-multihash"
)

// flushAfter is after how many changes MFS is flushed. A daemon refuses the 257th, whoever made those before.
const flushAfter = 100

// errCollecting says that what was sent was collected again and again.
var errCollecting = unavailable{errors.New("the daemon collects all the time")}

// hold protects blocks from the daemon's collection: those that prepare names, of which it sends a batch.
//
// What MFS reaches is not collected. So a directory of what is to be held is sent with the batch and linked into MFS,
// which costs the daemon the same however much it is (a pin would be synced to the disk, and read all of it
// again). Blocks may be there under their bare names only, for nothing to be looked for below them.
//
// Until it is linked, a collection may take all of it or a part. There is always a canary, a block that nothing
// holds, put before: if it is still there when the directory is linked, then no collection has ended since; and
// none was under way, for the link waited for its end. Else all is done again.
func (x *Session) hold(ctx context.Context, prepare func() (names []cid.Cid, batch []blocks.Block, err error)) error {
	for deadline := time.Now().Add(x.b.o.LockTimeout); time.Now().Before(deadline); {
		canary, err := x.keepCanary(ctx)
		if err != nil {
			return err
		}
		names, batch, err := prepare()
		if err != nil || len(names) == 0 {
			return err
		}
		node, err := directory(names)
		if err != nil {
			return err
		}
		if err := x.b.importBlocks(ctx, append(batch[:len(batch):len(batch)], node)); err != nil {
			return err
		}
		linkErr := x.link(ctx, node.Cid())
		intact, err := x.intact(ctx, canary)
		if err = errors.Join(linkErr, err); intact || err != nil && ctx.Err() != nil {
			return err
		}
	}
	return x.b.fault("hold what was put", errCollecting)
}

// directory makes a UnixFS directory that links to cs.
func directory(cs []cid.Cid) (blocks.Block, error) {
	nd := merkledag.NodeWithData(ft.FolderPBData())
	if err := nd.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: mh.SHA2_256}); err != nil {
		return nil, err
	}
	for i, c := range cs {
		if err := nd.AddRawLink(fmt.Sprintf("%04x", i), &ipld.Link{Cid: c}); err != nil {
			return nil, err
		}
	}
	return nd, nil
}

// keepCanary returns the session's canary, a new one if there is none.
func (x *Session) keepCanary(ctx context.Context) (cid.Cid, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.canary.Defined() {
		return x.canary, nil
	}
	blk := merkledag.NewRawNode([]byte("volary canary " + rand.Text()))
	if err := x.b.importBlocks(ctx, []blocks.Block{blk}); err != nil {
		return cid.Undef, err
	}
	x.canary = blk.Cid()
	return x.canary, nil
}

// intact reports whether a canary is still there; the session has no more use for one that is not.
func (x *Session) intact(ctx context.Context, canary cid.Cid) (bool, error) {
	has, err := x.b.Has(ctx, canary)
	if err != nil || has[0] {
		return err == nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.canary.Equals(canary) {
		x.canary = cid.Undef
	}
	return false, nil
}

// link puts a directory into MFS.
func (x *Session) link(ctx context.Context, c cid.Cid) error {
	ctx = withPatience(ctx, x.b.o.LockTimeout)
	err := x.linkOnce(ctx, c, false)
	var said *rpc.Error
	if errors.As(err, &said) {
		// Others may have left so much unflushed that the daemon takes no more.
		err = x.linkOnce(ctx, c, true)
	}
	if err != nil {
		return x.b.fault("link what was put into MFS", err)
	}
	return nil
}

func (x *Session) linkOnce(ctx context.Context, c cid.Cid, flush bool) error {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return ErrClosed
	}
	path := fmt.Sprintf("%s/%06d", x.name, x.links)
	if x.links++; x.links == 1 {
		x.b.linked.Add(1)
	}
	x.unflushed++
	if flush = flush || x.unflushed >= flushAfter; flush {
		x.unflushed, x.flushed = 0, true
	}
	x.mu.Unlock()
	err := x.b.api.Request("files/cp", "/ipfs/"+c.String(), path).Option("parents", true).
		Option("offline", true).Option("flush", flush).Exec(ctx, nil)
	if err == nil && flush {
		// MFS now has a root that may not be on the disk. A daemon that does not find it does not start again.
		err = x.b.Sync(ctx)
	}
	return err
}

// sessions is how the names of the host's sessions in MFS begin.
func (b *Blocks) sessions() string { return "/.volary-session-" + b.o.Host + "-" }

func (b *Blocks) remove(ctx context.Context, path string) error {
	err := b.api.Request("files/rm", path).Option("recursive", true).Option("force", true).
		Exec(withPatience(ctx, b.o.LockTimeout), nil)
	if err != nil {
		return b.fault("remove "+path+" from MFS", err)
	}
	return nil
}

// ReleaseHeld releases what sessions of Options.Host hold that were never closed, and returns how many those were. No
// session of the host may be open, in any process.
func (b *Blocks) ReleaseHeld(ctx context.Context) (int, error) {
	var list struct{ Entries []struct{ Name string } }
	if err := b.api.Request("files/ls", "/").Exec(ctx, &list); err != nil {
		return 0, b.fault("list MFS", err)
	}
	n := 0
	for _, e := range list.Entries {
		if path := "/" + e.Name; strings.HasPrefix(path, b.sessions()) {
			if err := b.remove(ctx, path); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}
