package meta

import (
	"context"
	"fmt"
	"sort"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// At finds an entry by its number: what is below a directory is counted in preorder, each directory before its
// entries and those in byte order of their names, from 0. It returns the row that has the number or is a
// directory above the entry that has it, and that row's own number. One run of a large directory is read.
//
// There is no such entry if n is not below the directory's Below; the error then wraps [snapshot.ErrFormat].
func At(ctx context.Context, b Getter, entries cid.Cid, n uint64) (Row, uint64, error) {
	if !entries.Defined() {
		return Row{}, 0, fmt.Errorf("entry %d of a directory without rows: %w", n, snapshot.ErrFormat)
	}
	index, rows, err := runs(ctx, b, entries)
	if err != nil {
		return Row{}, 0, err
	}
	var first uint64
	for _, run := range index {
		if rows == nil && n-first >= run.Total {
			first += run.Total
			continue
		}
		if rows == nil {
			if rows, err = readRun(ctx, b, run.Rows.Cid); err != nil {
				return Row{}, 0, err
			}
		}
		for _, raw := range rows {
			row, err := decodeRow(raw)
			if err != nil {
				return Row{}, 0, fmt.Errorf("decode directory %s: %w", entries, err)
			}
			if n-first <= row.Below {
				return row, first, nil
			}
			first += 1 + row.Below
		}
		break // the run has fewer entries than the index says
	}
	return Row{}, 0, fmt.Errorf("directory %s has no entry %d: %w", entries, n, snapshot.ErrFormat)
}

// NumberOf is [Find], and also returns the row's number; see [At].
func NumberOf(ctx context.Context, b Getter, entries cid.Cid, name string) (uint64, Row, bool, error) {
	if !entries.Defined() {
		return 0, Row{}, false, nil
	}
	index, rows, err := runs(ctx, b, entries)
	if err != nil {
		return 0, Row{}, false, err
	}
	after := sort.Search(len(index), func(i int) bool { return string(index[i].First) > name })
	var number uint64
	for _, run := range index[:max(after-1, 0)] {
		number += run.Total
	}
	if rows == nil {
		if rows, err = readRun(ctx, b, index[max(after-1, 0)].Rows.Cid); err != nil {
			return 0, Row{}, false, err
		}
	}
	for _, raw := range rows {
		row, err := decodeRow(raw)
		if err != nil {
			return 0, Row{}, false, fmt.Errorf("decode directory %s: %w", entries, err)
		}
		if row.Name >= name {
			return number, row, row.Name == name, nil
		}
		number += 1 + row.Below
	}
	return 0, Row{}, false, nil
}
