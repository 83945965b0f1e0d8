package kept

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

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
	sender  *sender
}

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
	own := h.o.Kubo.Session()
	x := &Session{Session: own, host: h, records: records, prefix: prefix, sender: newSender(own.Put, h.recent.remember)}
	h.sessionsMu.Lock()
	h.sessions[x] = true
	h.sessionsMu.Unlock()
	return x, nil
}

// Put implements [snapshot.Blocks]. It may return before the blocks are sent: nobody but the session sees them before.
func (x *Session) Put(ctx context.Context, bs ...blocks.Block) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, b := range bs {
		if !b.Cid().Defined() {
			return fmt.Errorf("put block: undefined CID: %w", snapshot.ErrFormat)
		}
		if size := len(b.RawData()); size > snapshot.MaxBlockSize {
			return fmt.Errorf("put block %s of %d bytes, more than %d: %w", b.Cid(), size, snapshot.MaxBlockSize, snapshot.ErrFormat)
		}
	}
	return x.sender.add(ctx, bs...)
}

// Get implements [snapshot.Blocks].
func (x *Session) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	data, waits := x.sender.copyOf(string(c.Hash()))
	if !waits {
		return x.host.Get(ctx, c)
	}
	asked, err := blocks.NewBlockWithCid(data, c)
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
		if err := x.sender.flushed(ctx); err != nil {
			for range cs {
				if !yield(nil, err) {
					return
				}
			}
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
	for i, c := range cs {
		if has[i] = x.sender.waits(string(c.Hash())); !has[i] {
			ask, at = append(ask, c), append(at, i)
		}
	}
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
	if err := x.sender.flushed(ctx); err != nil {
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
	if err := x.sender.flushed(ctx); err != nil {
		return nil, err
	}
	return x.Hold(ctx, roots...)
}

// Close ends the session. What was not synced need not have been sent.
func (x *Session) Close() error {
	x.host.sessionsMu.Lock()
	delete(x.host.sessions, x)
	x.host.sessionsMu.Unlock()
	x.sender.close()
	return errors.Join(x.Session.Close(), x.records.Close())
}
