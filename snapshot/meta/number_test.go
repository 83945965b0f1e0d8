package meta_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/meta"
)

func TestAtFindsEachEntryByItsNumberInPreorder(t *testing.T) {
	for _, entries := range []int{1, 7, 9000} {
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			b := blockstest.NewMemory()
			below, sub, err := subdir(t, b)
			if err != nil {
				t.Fatal(err)
			}
			rows := make([]meta.Row, entries)
			for i := range rows {
				rows[i] = meta.Row{Name: fmt.Sprintf("name-%08d", i), Attr: meta.Attr{Type: meta.File}}
				if i%3 == 0 {
					rows[i].Attr = meta.Attr{Type: meta.Dir, Below: below, Entries: sub}
				}
			}
			dir, total, err := meta.WriteDir(t.Context(), b, rows)
			if err != nil {
				t.Fatal(err)
			}
			var n uint64
			for i, want := range rows {
				for at := n; at <= n+want.Below && (i < 10 || i%997 == 0); at++ {
					got, first, err := meta.At(t.Context(), b, dir, at)
					if err != nil || got.Name != want.Name || first != n {
						t.Fatalf("entry %d is %q, which begins at %d (%v); want %q at %d", at, got.Name, first, err, want.Name, n)
					}
				}
				if i < 10 || i%997 == 0 {
					number, row, found, err := meta.NumberOf(t.Context(), b, dir, want.Name)
					if err != nil || !found || number != n || row.Name != want.Name {
						t.Fatalf("%q has number %d (%v, %v), want %d", want.Name, number, found, err, n)
					}
				}
				n += 1 + want.Below
			}
			if n != total {
				t.Fatalf("the directory counts %d entries, its rows %d", total, n)
			}
			if _, _, err := meta.At(t.Context(), b, dir, n); !errors.Is(err, snapshot.ErrFormat) {
				t.Errorf("entry %d of %d: %v", n, n, err)
			}
			if _, _, found, err := meta.NumberOf(t.Context(), b, dir, "name-00000000a"); found || err != nil {
				t.Errorf("a name that is not there: %v, %v", found, err)
			}
		})
	}
}

func subdir(t *testing.T, b meta.Putter) (uint64, cid.Cid, error) {
	sub, below, err := meta.WriteDir(t.Context(), b, []meta.Row{
		{Name: "a", Attr: meta.Attr{Type: meta.File}}, {Name: "b", Attr: meta.Attr{Type: meta.Symlink, Mode: 0o777}},
	})
	return below, sub, err
}
