package kept

import (
	"context"
	"encoding/binary"
	"errors"
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
	return &Session{Session: h.o.Kubo.Session(), host: h, records: records, prefix: prefix}, nil
}

// Get implements [snapshot.Blocks].
func (x *Session) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) { return x.host.Get(ctx, c) }

// GetMany implements [snapshot.ManyGetter].
func (x *Session) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return snapshot.GetMany(ctx, x.host, cs...)
}

// Sync implements [snapshot.Blocks].
func (x *Session) Sync(ctx context.Context) error {
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

func (x *Session) key(key []byte) []byte { return append(x.prefix[:len(x.prefix):len(x.prefix)], key...) }

// Adopt implements [importer.StatCache]. The daemon is asked for the roots alone; should it lack something below one,
// the pin of what is made of it fails, and with it all that is remembered is forgotten.
func (x *Session) Adopt(ctx context.Context, roots []cid.Cid) ([]bool, error) {
	return x.Hold(ctx, roots...)
}

// Close ends the session.
func (x *Session) Close() error { return errors.Join(x.Session.Close(), x.records.Close()) }
