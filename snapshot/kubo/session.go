package kubo

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"sync"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// ErrClosed says that a session is over.
var ErrClosed = errors.New("session is closed")

// closeTimeout bounds how long the end of a session may take.
const closeTimeout = time.Minute

// A Session is the daemon's blocks for one writer. What it puts, finds present with Has, or holds, the daemon does not
// collect before Close, whenever its collection runs. What is only got is not protected. It must be made by
// [Blocks.Session]. All methods are safe for concurrent use.
//
// What a session that was never closed holds, [Blocks.ReleaseHeld] releases.
type Session struct {
	b    *Blocks
	name string // of a directory in the daemon's MFS, in which is what is held

	mu        sync.Mutex
	canary    cid.Cid // see hold
	links     int     // made so far
	unflushed int     // of them
	flushed   bool    // some were
	closed    bool
}

var (
	_ snapshot.Blocks     = (*Session)(nil)
	_ snapshot.ManyGetter = (*Session)(nil)
)

// Session begins a session. The daemon does not hear of it before something is put.
func (b *Blocks) Session() *Session {
	return &Session{b: b, name: b.sessions() + rand.Text()}
}

// Get is [Blocks.Get].
func (x *Session) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := x.open(); err != nil {
		return nil, err
	}
	return x.b.Get(ctx, c)
}

// GetInto is [Blocks.GetInto].
func (x *Session) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if err := x.open(); err != nil {
		return nil, err
	}
	return x.b.GetInto(ctx, c, buf)
}

// GetMany is [Blocks.GetMany].
func (x *Session) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return x.b.GetMany(ctx, cs...)
}

// Sync is [Blocks.Sync].
func (x *Session) Sync(ctx context.Context) error {
	if err := x.open(); err != nil {
		return err
	}
	return x.b.Sync(ctx)
}

// Put is [Blocks.Put], and protects the blocks.
func (x *Session) Put(ctx context.Context, bs ...blocks.Block) error {
	if err := x.open(); err != nil {
		return err
	}
	return x.b.put(ctx, bs, func(ctx context.Context, batch []blocks.Block) error {
		names := make([]cid.Cid, len(batch))
		for i, blk := range batch {
			names[i] = bare(blk.Cid())
		}
		return x.hold(ctx, func() ([]cid.Cid, []blocks.Block, error) { return names, batch, nil })
	})
}

// Has is [Blocks.Has], and protects the blocks it finds.
func (x *Session) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	return x.has(ctx, cs, bare)
}

// Hold is Has, and protects what it finds with all that is below. It does not look whether all of that is there.
func (x *Session) Hold(ctx context.Context, roots ...cid.Cid) ([]bool, error) {
	return x.has(ctx, roots, func(c cid.Cid) cid.Cid { return c })
}

func (x *Session) has(ctx context.Context, cs []cid.Cid, name func(cid.Cid) cid.Cid) ([]bool, error) {
	if err := x.open(); err != nil {
		return nil, err
	}
	all := make([]bool, 0, len(cs))
	for len(cs) > 0 {
		asked := cs[:min(len(cs), batchBlocks)]
		cs = cs[len(asked):]
		var has []bool
		err := x.hold(ctx, func() (names []cid.Cid, _ []blocks.Block, err error) {
			has, err = x.b.Has(ctx, asked...)
			for i := range has {
				if has[i] {
					names = append(names, name(asked[i]))
				}
			}
			return names, nil, err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, has...)
	}
	return all, nil
}

func (x *Session) open() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return ErrClosed
	}
	return nil
}

// Close ends the protection. If the daemon does not hear of that, what was held stays until [Blocks.ReleaseHeld].
func (x *Session) Close() error {
	x.mu.Lock()
	again, flushed := x.closed || x.links == 0, x.flushed
	x.closed = true
	x.mu.Unlock()
	if again {
		return nil
	}
	ctx, done := context.WithTimeout(context.Background(), closeTimeout)
	defer done()
	others := x.b.linked.Add(-1) > 0
	if err := x.b.remove(ctx, x.name); err != nil || !flushed && !others {
		return err // the root of MFS is the one it was
	}
	return x.b.Sync(ctx)
}
