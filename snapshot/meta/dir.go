package meta

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/dagcbor"
)

// WriteDir writes a directory's rows, which are in byte order of their names, and returns their node and how
// many entries they and everything below them are. Without rows there is no node.
func WriteDir(ctx context.Context, b Putter, rows []Row) (entries cid.Cid, below uint64, err error) {
	return WriteRows(ctx, b, len(rows), func(yield func(Row, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	})
}

// WriteRows is WriteDir for rows, about n of them, that are made one after the other.
func WriteRows(ctx context.Context, b Putter, n int, rows iter.Seq2[Row, error]) (entries cid.Cid, below uint64, err error) {
	items := make([]item, 0, n)
	for r, err := range rows {
		if err != nil {
			return cid.Undef, 0, err
		}
		if err := checkRow(r); err != nil {
			return cid.Undef, 0, fmt.Errorf("encode row %q: %w", r.Name, err)
		}
		raw, err := dagcbor.Marshal(toWire(r))
		if err != nil {
			return cid.Undef, 0, err
		}
		items = append(items, item{key: r.Name, total: 1 + r.Below, raw: raw})
	}
	entries, err = writeTable(ctx, b, items)
	return entries, total(items), err
}

func checkRow(r Row) error {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	return r.check()
}

// Rows yields the rows of a directory in byte order of their names; the undefined CID has none. Memory is
// bounded by a run and the index.
func Rows(ctx context.Context, b Getter, entries cid.Cid) iter.Seq2[Row, error] {
	return rowsFrom(ctx, b, entries, "")
}

// Find returns the row of one name, and whether there is one. It reads one run of a large directory.
func Find(ctx context.Context, b Getter, entries cid.Cid, name string) (Row, bool, error) {
	for row, err := range rowsFrom(ctx, b, entries, name) {
		switch {
		case err != nil:
			return Row{}, false, err
		case row.Name == name:
			return row, true, nil
		case row.Name > name:
			return Row{}, false, nil
		}
	}
	return Row{}, false, nil
}

func rowsFrom(ctx context.Context, b Getter, entries cid.Cid, from string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		last := ""
		for raw, err := range table(ctx, b, entries, from) {
			var row Row
			if err == nil {
				row, err = decodeRow(raw)
			}
			if err == nil && row.Name <= last {
				err = fmt.Errorf("row %q does not come after %q: %w", row.Name, last, snapshot.ErrFormat)
			}
			if err != nil {
				yield(Row{}, fmt.Errorf("decode directory %s: %w", entries, err))
				return
			}
			last = row.Name
			if !yield(row, nil) {
				return
			}
		}
	}
}

func decodeRow(raw dagcbor.Raw) (Row, error) {
	if row, ok := fastRow(raw); ok {
		return row, checkRow(row)
	}
	var w wireRow
	if err := dagcbor.Unmarshal(raw, &w); err != nil {
		return Row{}, err
	}
	row := fromWire(w)
	return row, checkRow(row)
}

// Hardlink says that the file at Path is the one at Leader. Paths have slashes and are relative to the top
// directory; the leader is the smallest path of its group in byte order and has no entry itself.
type Hardlink struct{ Path, Leader string }

func (l Hardlink) check() error {
	for _, p := range []string{l.Path, l.Leader} {
		for name := range strings.SplitSeq(p, "/") {
			if err := CheckName(name); err != nil {
				return err
			}
		}
	}
	if l.Leader >= l.Path {
		return fmt.Errorf("hardlink %q comes before its leader %q: %w", l.Path, l.Leader, snapshot.ErrFormat)
	}
	return nil
}

func writeHardlinks(ctx context.Context, b Putter, links []Hardlink) (cid.Cid, error) {
	items := make([]item, len(links))
	for i, l := range links {
		if err := l.check(); err != nil {
			return cid.Undef, fmt.Errorf("encode hardlinks: %w", err)
		}
		raw, err := dagcbor.Marshal(wireHardlink{Path: dagcbor.Bytes(l.Path), Leader: dagcbor.Bytes(l.Leader)})
		if err != nil {
			return cid.Undef, err
		}
		items[i] = item{key: l.Path, total: 1, raw: raw}
	}
	return writeTable(ctx, b, items)
}

// Hardlinks yields the entries of a hardlink table in byte order of their paths; the undefined CID has none.
func Hardlinks(ctx context.Context, b Getter, table cid.Cid) iter.Seq2[Hardlink, error] {
	return hardlinksFrom(ctx, b, table, "")
}

// Leader returns the leader of the file at path, and whether path has one that is not itself.
func Leader(ctx context.Context, b Getter, table cid.Cid, path string) (string, bool, error) {
	for l, err := range hardlinksFrom(ctx, b, table, path) {
		switch {
		case err != nil:
			return "", false, err
		case l.Path == path:
			return l.Leader, true, nil
		case l.Path > path:
			return "", false, nil
		}
	}
	return "", false, nil
}

func hardlinksFrom(ctx context.Context, b Getter, node cid.Cid, from string) iter.Seq2[Hardlink, error] {
	return func(yield func(Hardlink, error) bool) {
		last := ""
		for raw, err := range table(ctx, b, node, from) {
			var w wireHardlink
			if err == nil {
				err = dagcbor.Unmarshal(raw, &w)
			}
			l := Hardlink{Path: string(w.Path), Leader: string(w.Leader)}
			if err == nil {
				err = l.check()
			}
			if err == nil && l.Path <= last {
				err = fmt.Errorf("%q does not come after %q: %w", l.Path, last, snapshot.ErrFormat)
			}
			if err != nil {
				yield(Hardlink{}, fmt.Errorf("decode hardlinks %s: %w", node, err))
				return
			}
			last = l.Path
			if !yield(l, nil) {
				return
			}
		}
	}
}
