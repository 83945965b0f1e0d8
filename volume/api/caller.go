package api

import (
	"context"
	"iter"
	"strconv"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
)

// ForCaller gives a session stat records that only callers of the same uid see. What a record says of a file
// is believed without reading the file, so nobody may write one for somebody else. Whoever opens a store
// directly does the same with the effective uid, to find again what was saved through a daemon.
func ForCaller(s Session, uid uint32) Session { return callersSession{s, uid} }

// OriginsFor are a user's own marks. Whoever opens a store directly uses them with the effective uid.
func OriginsFor(o Owners, uid uint32) Origins { return callersOrigins{o, uid} }

type callersOrigins struct {
	owners Owners
	uid    uint32
}

func (o callersOrigins) MarkOwn(ctx context.Context, commit cid.Cid) error {
	return o.owners.MarkOwnBy(ctx, commit, o.uid)
}

func (o callersOrigins) Own(ctx context.Context, commit cid.Cid) (bool, error) {
	return o.owners.OwnBy(ctx, commit, o.uid)
}

type callersSession struct {
	Session
	uid uint32
}

func (s callersSession) key(key []byte) []byte {
	b := append(make([]byte, 0, 16+len(key)), "uid "...)
	b = strconv.AppendUint(b, uint64(s.uid), 10)
	return append(append(b, '/'), key...)
}

// GetInto is Get for a caller who has room for the bytes.
func (s callersSession) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	return getInto(ctx, s.Session, c, buf)
}

// Local implements [snapshot.Layered].
func (s callersSession) Local() snapshot.Blocks { return snapshot.Local(s.Session) }

// Far reports whether any of cs is got from elsewhere.
func (s callersSession) Far(ctx context.Context, cs ...cid.Cid) bool {
	return far(ctx, s.Session, cs...)
}

// GetMany implements [snapshot.ManyGetter].
func (s callersSession) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return snapshot.GetMany(ctx, s.Session, cs...)
}

func (s callersSession) LoadStat(ctx context.Context, key []byte) ([]byte, error) {
	return s.Session.LoadStat(ctx, s.key(key))
}

func (s callersSession) SaveStat(ctx context.Context, recs []importer.StatRecord) error {
	own := make([]importer.StatRecord, len(recs))
	for i, r := range recs {
		own[i] = importer.StatRecord{Key: s.key(r.Key), Value: r.Value, Roots: r.Roots}
	}
	return s.Session.SaveStat(ctx, own)
}
