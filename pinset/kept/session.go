package kept

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/kubo"
	"github.com/volary/volary/snapshot/store"
)

// Session is blocks under which the daemon collects nothing, with the memory of what files were. It must be made by
// Host.Session.
type Session struct {
	*kubo.Session
	host    *Host
	records *store.Session
	prefix  []byte // of keys, so that what is to be forgotten is not found

	sending sync.RWMutex // held for reading by whoever sends

	mu      sync.Mutex
	waiting []blocks.Block    // to be sent
	size    int               // bytes of them
	unsent  map[string]unsent // by multihash
	failed  error             // of sending
}

// unsent is a block that was put so many times more than it was sent.
type unsent struct {
	block blocks.Block
	times int
}

// putAtOnce is how many bytes of blocks are sent together, at least.
const putAtOnce = 1 << 20

var _ importer.StatCache = (*Session)(nil)

// Session begins a session.
func (h *Host) Session(ctx context.Context) (*Session, error) {
	n, err := h.epoch(ctx)
	if err != nil {
		return nil, err
	}
	records, err := h.o.Records.Session(ctx)
	if err != nil {
		return nil, err
	}
	prefix := binary.BigEndian.AppendUint64([]byte("kubo/"), n)
	x := &Session{Session: h.o.Kubo.Session(), host: h, records: records, prefix: prefix, unsent: map[string]unsent{}}
	h.sessionsMu.Lock()
	h.sessions[x] = true
	h.sessionsMu.Unlock()
	return x, nil
}

// Put implements [snapshot.Blocks]. Few blocks are sent together with those that come after them, as each request takes
// the daemon as long as many blocks do: nobody but the session sees them before.
func (x *Session) Put(ctx context.Context, bs ...blocks.Block) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	size := 0
	for _, b := range bs {
		size += len(b.RawData())
	}
	if size >= putAtOnce {
		return x.Session.Put(ctx, bs...)
	}
	x.mu.Lock()
	for _, b := range bs {
		own, err := blocks.NewBlockWithCid(bytes.Clone(b.RawData()), b.Cid())
		if err != nil {
			x.mu.Unlock()
			return err
		}
		u := x.unsent[string(own.Cid().Hash())]
		x.unsent[string(own.Cid().Hash())] = unsent{own, u.times + 1}
		x.waiting = append(x.waiting, own)
	}
	x.size += size
	full := x.size >= putAtOnce
	x.mu.Unlock()
	if full {
		return x.send(ctx)
	}
	return nil
}

// send sends what waits.
func (x *Session) send(ctx context.Context) error {
	x.sending.RLock()
	defer x.sending.RUnlock()
	x.mu.Lock()
	batch := x.waiting
	x.waiting, x.size = nil, 0
	x.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := x.Session.Put(ctx, batch...)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.failed = err
		return err
	}
	for _, b := range batch {
		hash := string(b.Cid().Hash())
		if u := x.unsent[hash]; u.times > 1 {
			x.unsent[hash] = unsent{u.block, u.times - 1}
		} else {
			delete(x.unsent, hash)
		}
	}
	return nil
}

// flushed sends what waits and waits for what others are sending. What failed once is missing for good.
func (x *Session) flushed(ctx context.Context) error {
	if err := x.send(ctx); err != nil {
		return err
	}
	x.sending.Lock()
	defer x.sending.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.failed
}

// Get implements [snapshot.Blocks].
func (x *Session) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	x.mu.Lock()
	b := x.unsent[string(c.Hash())].block
	x.mu.Unlock()
	if b == nil {
		return x.host.Get(ctx, c)
	}
	asked, err := blocks.NewBlockWithCid(b.RawData(), c)
	if err == nil {
		err = snapshot.CheckHash(asked)
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return nil, fmt.Errorf("get %s: %w", c, err)
	}
	return asked, nil
}

// GetMany implements [snapshot.ManyGetter].
func (x *Session) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		if err := x.flushed(ctx); err != nil {
			yield(nil, err)
			return
		}
		for b, err := range snapshot.GetMany(ctx, x.host, cs...) {
			if !yield(b, err) {
				return
			}
		}
	}
}

// Has implements [snapshot.Blocks]: what the daemon has, or is about to be sent.
func (x *Session) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	has := make([]bool, len(cs))
	var ask []cid.Cid
	var at []int
	x.mu.Lock()
	for i, c := range cs {
		if _, has[i] = x.unsent[string(c.Hash())]; !has[i] {
			ask, at = append(ask, c), append(at, i)
		}
	}
	x.mu.Unlock()
	if len(ask) == 0 {
		return has, ctx.Err()
	}
	there, err := x.Session.Has(ctx, ask...)
	for i, one := range there {
		has[at[i]] = one
	}
	return has, err
}

// Sync implements [snapshot.Blocks].
func (x *Session) Sync(ctx context.Context) error {
	if err := x.flushed(ctx); err != nil {
		return err
	}
	return errors.Join(x.Session.Sync(ctx), x.records.Sync(ctx))
}

// LoadStat implements [importer.StatCache].
func (x *Session) LoadStat(ctx context.Context, key []byte) ([]byte, error) {
	return x.records.LoadStat(ctx, x.key(key))
}

// SaveStat implements [importer.StatCache]. The roots are the daemon's, of which the records know nothing.
func (x *Session) SaveStat(ctx context.Context, recs []importer.StatRecord) error {
	own := make([]store.StatRecord, len(recs))
	for i, r := range recs {
		own[i] = store.StatRecord{Key: x.key(r.Key), Value: r.Value}
	}
	return x.records.SaveStat(ctx, own)
}

func (x *Session) key(key []byte) []byte {
	return append(x.prefix[:len(x.prefix):len(x.prefix)], key...)
}

// Adopt implements [importer.StatCache]. The daemon is asked for the roots alone; should it lack something below one,
// the pin of what is made of it fails, and with it all that is remembered is forgotten.
func (x *Session) Adopt(ctx context.Context, roots []cid.Cid) ([]bool, error) {
	if err := x.flushed(ctx); err != nil {
		return nil, err
	}
	return x.Hold(ctx, roots...)
}

// Close ends the session. What was not synced need not have been sent.
func (x *Session) Close() error {
	x.host.sessionsMu.Lock()
	delete(x.host.sessions, x)
	x.host.sessionsMu.Unlock()
	return errors.Join(x.Session.Close(), x.records.Close())
}
