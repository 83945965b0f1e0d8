package meta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"sort"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/dagcbor"
)

const (
	// MaxRun is how many encoded bytes of rows one node holds; more are cut into runs.
	MaxRun = 256 << 10
	// cutEvery is the mean number of rows in a run: a boundary is where the key's hash is a multiple of it.
	cutEvery = 1024
)

// A table is a sorted list of rows, each with a key. It is encoded as one node of rows, or as an index node
// over several. Both tables of the sidecar, entries of a directory and hardlinks, have this form.
type wireRows struct {
	Rows []dagcbor.Raw `cbor:"rows"`
}

type wireIndex struct {
	Runs []wireRun `cbor:"runs"`
}

type wireRun struct {
	_     struct{} `cbor:",toarray"`
	First dagcbor.Bytes
	Total uint64 // entries in the run, those below its directories included
	Rows  dagcbor.Link
}

// item is a row on its way into a table.
type item struct {
	key   string
	total uint64
	raw   dagcbor.Raw
}

// writeTable writes the items, which are in byte order of their keys, and returns their node; none have no
// node.
func writeTable(ctx context.Context, b Putter, items []item) (cid.Cid, error) {
	for i := 1; i < len(items); i++ {
		if items[i-1].key >= items[i].key {
			return cid.Undef, fmt.Errorf("encode sidecar: %q does not come after %q", items[i].key, items[i-1].key)
		}
	}
	if len(items) == 0 {
		return cid.Undef, nil
	}
	if size(items) <= MaxRun {
		return writeRun(ctx, b, items)
	}
	var index wireIndex
	for run := range cut(items, cutEvery) {
		c, err := writeRun(ctx, b, run)
		if err != nil {
			return cid.Undef, err
		}
		index.Runs = append(index.Runs, wireRun{First: dagcbor.Bytes(run[0].key), Total: total(run), Rows: dagcbor.Link{Cid: c}})
	}
	return write(ctx, b, index)
}

func writeRun(ctx context.Context, b Putter, items []item) (cid.Cid, error) {
	rows := make([]dagcbor.Raw, len(items))
	for i, it := range items {
		rows[i] = it.raw
	}
	return write(ctx, b, wireRows{Rows: rows})
}

// cut yields the runs of items: a run begins at each key whose hash is a multiple of every. A run that is
// still too large is cut by itself at twice as many keys, until each run fits or is a single row. Where a run
// begins thus depends on the keys in it alone.
func cut(items []item, every uint64) iter.Seq[[]item] {
	return func(yield func([]item) bool) {
		for start := 0; start < len(items); {
			end := start + 1
			for end < len(items) && hash(items[end].key)%every != 0 {
				end++
			}
			run := items[start:end]
			start = end
			if every == 1 || size(run) <= MaxRun {
				if !yield(run) {
					return
				}
				continue
			}
			for part := range cut(run, every/2) {
				if !yield(part) {
					return
				}
			}
		}
	}
}

func hash(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:8])
}

func size(items []item) int {
	n := 0
	for _, it := range items {
		n += len(it.raw)
	}
	return n
}

func total(items []item) uint64 {
	var n uint64
	for _, it := range items {
		n += it.total
	}
	return n
}

// runs returns the nodes that hold a table's rows. If node holds the rows itself, they are returned too.
func runs(ctx context.Context, b Getter, node cid.Cid) ([]wireRun, []dagcbor.Raw, error) {
	blk, err := b.Get(ctx, node)
	if err != nil {
		return nil, nil, err
	}
	if bytes.HasPrefix(blk.RawData(), indexPrefix) {
		index, err := decodeIndex(blk)
		return index, nil, err
	}
	rows, err := decodeRows(blk)
	return []wireRun{{Rows: dagcbor.Link{Cid: node}}}, rows, err
}

// indexPrefix is how the encoding of a wireIndex begins: a map of one pair, its key "runs".
var indexPrefix = []byte("\xa1\x64runs")

func decodeRows(blk blocks.Block) ([]dagcbor.Raw, error) {
	var w wireRows
	var usual bool
	if w.Rows, usual = fastRows(blk.RawData()); !usual || blk.Cid().Prefix().Codec != cid.DagCBOR {
		if err := dagcbor.Decode(blk, &w); err != nil {
			return nil, err
		}
	}
	n := 0
	for _, raw := range w.Rows {
		n += len(raw)
	}
	if n == 0 || n > MaxRun {
		return nil, fmt.Errorf("decode %s: rows of %d bytes in one node: %w", blk.Cid(), n, snapshot.ErrFormat)
	}
	return w.Rows, nil
}

func decodeIndex(blk blocks.Block) ([]wireRun, error) {
	var w wireIndex
	if err := dagcbor.Decode(blk, &w); err != nil {
		return nil, err
	}
	if len(w.Runs) < 2 {
		return nil, fmt.Errorf("decode %s: an index of fewer than two runs: %w", blk.Cid(), snapshot.ErrFormat)
	}
	for i, r := range w.Runs {
		if !r.Rows.Defined() || r.Total == 0 || i > 0 && w.Runs[i-1].First >= r.First {
			return nil, fmt.Errorf("decode %s: run %d is not in order: %w", blk.Cid(), i, snapshot.ErrFormat)
		}
	}
	return w.Runs, nil
}

// table yields a table's encoded rows with the node each comes from, from the run on that may hold the key
// from.
func table(ctx context.Context, b Getter, node cid.Cid, from string) iter.Seq2[dagcbor.Raw, error] {
	return func(yield func(dagcbor.Raw, error) bool) {
		if !node.Defined() {
			return
		}
		index, rows, err := runs(ctx, b, node)
		if err != nil {
			yield(nil, err)
			return
		}
		after := sort.Search(len(index), func(i int) bool { return string(index[i].First) > from })
		for _, run := range index[max(after-1, 0):] {
			if rows == nil {
				if rows, err = readRun(ctx, b, run.Rows.Cid); err != nil {
					yield(nil, err)
					return
				}
			}
			for _, raw := range rows {
				if !yield(raw, nil) {
					return
				}
			}
			rows = nil
		}
	}
}

func readRun(ctx context.Context, b Getter, c cid.Cid) ([]dagcbor.Raw, error) {
	blk, err := b.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	return decodeRows(blk)
}
