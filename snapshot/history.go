package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/dagcbor"
)

const (
	// MaxRecent is how many ancestors a commit names itself.
	MaxRecent = 64
	// sealedLength is how many ancestors move into a chunk when there are too many for the commit. Chunks
	// never change once written, so a history of n commits costs n/32 chunks.
	sealedLength = 32
	historyKind  = "volary/history/1"
)

// wireHistory is a sealed chunk of ancestors, newest first.
type wireHistory struct {
	Kind    string         `cbor:"kind"`
	Commits []wireAncestor `cbor:"commits"`
	Older   dagcbor.Link   `cbor:"older"`
}

// Extend makes c a child of the parents: it sets Parents, Recent, Older and Sequence, and writes a sealed
// chunk when the recent ancestors become too many. Without parents c is the first of its history. With
// several, the history is their union: the chunks that all of them have stay, and what is in others is sealed
// anew. Older is read to its end, so that a session keeps what the new commit links to; if part of it is gone,
// the error wraps [ErrNotFound].
func Extend(ctx context.Context, b Blocks, c *Commit, parents ...cid.Cid) error {
	c.Parents, c.Recent, c.Older, c.Sequence = nil, nil, cid.Undef, 1
	var olders []cid.Cid
	for _, p := range parents {
		blk, err := b.Get(ctx, p)
		if err != nil {
			return fmt.Errorf("read parent: %w", err)
		}
		parent, err := DecodeCommit(blk)
		if err != nil {
			return err
		}
		c.Parents = append(c.Parents, p)
		c.Recent = append(c.Recent, Ancestor{CID: p, Sequence: parent.Sequence, Time: parent.Time})
		c.Recent = append(c.Recent, parent.Recent...)
		c.Sequence = max(c.Sequence, parent.Sequence+1)
		if !slices.Contains(olders, parent.Older) {
			olders = append(olders, parent.Older)
		}
	}
	unsealed, older, err := unite(ctx, b, olders)
	if err != nil {
		return err
	}
	c.Recent, c.Older = append(c.Recent, unsealed...), older
	slices.SortFunc(c.Recent, compareAncestors)
	c.Recent = slices.CompactFunc(c.Recent, func(x, y Ancestor) bool { return x.CID == y.CID })
	for len(c.Recent) > MaxRecent {
		older, err := seal(ctx, b, c.Recent[len(c.Recent)-sealedLength:], c.Older)
		if err != nil {
			return err
		}
		c.Recent, c.Older = c.Recent[:len(c.Recent)-sealedLength], older
	}
	return nil
}

// unite reads different chains of sealed chunks to their ends. It returns the newest chunk that is in all of them, Undef if there
// is none, and the ancestors in the chunks that are not.
func unite(ctx context.Context, b Blocks, olders []cid.Cid) (unsealed []Ancestor, common cid.Cid, _ error) {
	type chunk struct {
		ancestors []Ancestor
		older     cid.Cid
	}
	chunks, in := map[cid.Cid]chunk{}, map[cid.Cid]int{}
	for _, older := range olders {
		for c := older; c.Defined(); c = chunks[c].older {
			if _, read := chunks[c]; !read {
				as, next, err := readSealed(ctx, b, c)
				if err != nil {
					return nil, cid.Undef, err
				}
				if len(olders) == 1 {
					as = nil // the chain stays
				}
				chunks[c] = chunk{as, next}
			}
			in[c]++
		}
	}
	for _, older := range olders {
		c := older
		for ; c.Defined() && in[c] < len(olders); c = chunks[c].older {
			unsealed = append(unsealed, chunks[c].ancestors...)
		}
		common = c
	}
	return unsealed, common, nil
}

func seal(ctx context.Context, b Blocks, as []Ancestor, older cid.Cid) (cid.Cid, error) {
	blk, err := dagcbor.Encode(wireHistory{Kind: historyKind, Commits: ancestorsToWire(as), Older: dagcbor.Link{Cid: older}})
	if err != nil {
		return cid.Undef, err
	}
	return blk.Cid(), b.Put(ctx, blk)
}

// History yields a commit's ancestors, the newest first. Those it names itself need no block; for the rest it
// reads the sealed chunks. The ancestors' own blocks may be gone.
func History(ctx context.Context, b Blocks, c *Commit) iter.Seq2[Ancestor, error] {
	return func(yield func(Ancestor, error) bool) {
		as, older := c.Recent, c.Older
		for {
			for _, a := range as {
				if !yield(a, nil) {
					return
				}
			}
			if !older.Defined() {
				return
			}
			var err error
			if as, older, err = readSealed(ctx, b, older); err != nil {
				yield(Ancestor{}, err)
				return
			}
		}
	}
}

// ComesAfter reports whether a commit is among the ancestors of c. Its sequence, 0 if that is not known, is how far back
// it is looked for. The error says that the history could not be read so far.
func ComesAfter(ctx context.Context, b Blocks, c *Commit, commit cid.Cid, sequence uint64) (bool, error) {
	for a, err := range History(ctx, b, c) {
		switch {
		case err != nil:
			return false, err
		case a.CID == commit:
			return true, nil
		case a.Sequence < sequence:
			return false, nil
		}
	}
	return false, nil
}

// MergeBase returns the newest commit from which both of two commits come, which may be one of them: of several the one
// of the largest sequence, then of the smaller CID. It is undefined if there is none. It reads of both histories what is
// newer than that.
func MergeBase(ctx context.Context, b Blocks, x, y cid.Cid) (cid.Cid, error) {
	nextX, stopX := iter.Pull2(lineage(ctx, b, x))
	defer stopX()
	nextY, stopY := iter.Pull2(lineage(ctx, b, y))
	defer stopY()
	ax, errX, okX := nextX()
	ay, errY, okY := nextY()
	for okX && okY {
		if err := cmp.Or(errX, errY); err != nil {
			return cid.Undef, fmt.Errorf("find what %s and %s come from: %w", x, y, err)
		}
		switch order := compareAncestors(ax, ay); {
		case order == 0:
			return ax.CID, nil
		case order < 0:
			ax, errX, okX = nextX()
		default:
			ay, errY, okY = nextY()
		}
	}
	return cid.Undef, cmp.Or(errX, errY)
}

// lineage yields a commit and its ancestors, the newest first.
func lineage(ctx context.Context, b Blocks, commit cid.Cid) iter.Seq2[Ancestor, error] {
	return func(yield func(Ancestor, error) bool) {
		blk, err := b.Get(ctx, commit)
		var c *Commit
		if err == nil {
			c, err = DecodeCommit(blk)
		}
		if err != nil {
			yield(Ancestor{}, err)
			return
		}
		if !yield(Ancestor{CID: commit, Sequence: c.Sequence, Time: c.Time}, nil) {
			return
		}
		for a, err := range History(ctx, b, c) {
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

func readSealed(ctx context.Context, b Blocks, c cid.Cid) ([]Ancestor, cid.Cid, error) {
	blk, err := b.Get(ctx, c)
	if err != nil {
		return nil, cid.Undef, fmt.Errorf("read history: %w", err)
	}
	var w wireHistory
	if err := dagcbor.Decode(blk, &w); err != nil {
		return nil, cid.Undef, err
	}
	as, err := ancestorsFromWire(w.Commits)
	if err == nil && (w.Kind != historyKind || len(as) == 0 || len(as) > MaxRecent) {
		err = fmt.Errorf("kind %q with %d commits: %w", w.Kind, len(as), ErrFormat)
	}
	if err == nil {
		err = checkOrder(as)
	}
	if err != nil {
		return nil, cid.Undef, fmt.Errorf("decode history %s: %w", c, err)
	}
	return as, w.Older.Cid, nil
}

// compareAncestors orders by sequence, the largest first, then by CID, so that every host has the same order.
func compareAncestors(x, y Ancestor) int {
	return cmp.Or(cmp.Compare(y.Sequence, x.Sequence), bytes.Compare(x.CID.Bytes(), y.CID.Bytes()))
}

func checkOrder(as []Ancestor) error {
	for i := 1; i < len(as); i++ {
		if compareAncestors(as[i-1], as[i]) >= 0 {
			return fmt.Errorf("ancestor %s is out of order: %w", as[i].CID, ErrFormat)
		}
	}
	return nil
}

func ancestorsToWire(as []Ancestor) []wireAncestor {
	ws := make([]wireAncestor, len(as))
	for i, a := range as {
		ws[i] = wireAncestor{CID: a.CID.Bytes(), Sequence: a.Sequence, Time: a.Time.UnixNano()}
	}
	return ws
}

func ancestorsFromWire(ws []wireAncestor) ([]Ancestor, error) {
	var as []Ancestor
	for _, w := range ws {
		c, err := castCID(w.CID)
		if err != nil {
			return nil, fmt.Errorf("ancestor: %w", err)
		}
		as = append(as, Ancestor{CID: c, Sequence: w.Sequence, Time: time.Unix(0, w.Time).UTC()})
	}
	return as, nil
}

func castCID(b []byte) (cid.Cid, error) {
	c, err := cid.Cast(b)
	if err != nil {
		return cid.Undef, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return c, nil
}
