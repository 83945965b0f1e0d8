package meta

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/dagcbor"
)

// FuzzFastDecodersAgreeWithTheGeneralOne wants of whatever the fast decoders take that the general one takes it
// for the same.
func FuzzFastDecodersAgreeWithTheGeneralOne(f *testing.F) {
	usual := Row{Name: "name", Attr: Attr{Type: Dir, Mode: 0o755, UID: 1000, Sec: -1, Nsec: 999_999_999, Below: 70_000}}
	for _, a := range []Row{usual, {Name: "f", Attr: Attr{Sparse: true, Xattrs: []Xattr{{Name: "user.x", Value: []byte("y")}}}}} {
		raw, err := dagcbor.Marshal(toWire(a))
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(raw))
	}
	golden, err := os.ReadFile(filepath.Join("testdata", "golden", "rows.cbor"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	equal := cmp.Comparer(cid.Cid.Equals)
	f.Fuzz(func(t *testing.T, data []byte) {
		if row, ok := fastRow(data); ok {
			var w wireRow
			if err := dagcbor.Unmarshal(data, &w); err != nil {
				t.Fatalf("the general decoder refuses %x: %v", data, err)
			}
			if diff := cmp.Diff(fromWire(w), row, equal); diff != "" {
				t.Fatalf("%x (-general +fast):\n%s", data, diff)
			}
		}
		if rows, ok := fastRows(data); ok {
			var w wireRows
			if err := dagcbor.Unmarshal(data, &w); err != nil {
				t.Fatalf("the general decoder refuses %x: %v", data, err)
			}
			if !slices.EqualFunc(w.Rows, rows, func(a, b dagcbor.Raw) bool { return bytes.Equal(a, b) }) {
				t.Fatalf("%x: %x, and fast %x", data, w.Rows, rows)
			}
		}
	})
}

func TestUsualRowsAreDecodedFast(t *testing.T) {
	link, err := cid.Decode("bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Row{
		{Name: "f", Attr: Attr{Type: File, Mode: 0o644, UID: 70_000, GID: 300, Sec: 1 << 40, Nsec: 5}},
		{Name: "dir", Attr: Attr{Type: Dir, Mode: 0o7777, Sec: -1 << 40, Below: 1 << 40, Entries: link}},
		{Name: "dev", Attr: Attr{Type: BlockDevice, Major: 8, Minor: 1 << 20}},
		{Name: "x", Attr: Attr{Type: File, XattrsAt: link, Sparse: true}},
	} {
		raw, err := dagcbor.Marshal(toWire(want))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := fastRow(raw)
		if diff := cmp.Diff(want, got, cmp.Comparer(cid.Cid.Equals)); !ok || diff != "" {
			t.Errorf("%q, fast %v (-want +got):\n%s", want.Name, ok, diff)
		}
	}
}

func BenchmarkDecodeRow(b *testing.B) {
	raw, err := dagcbor.Marshal(toWire(Row{Name: "file-0001234", Attr: Attr{Mode: 0o644, Sec: 1_700_000_000, Nsec: 123_456_789}}))
	if err != nil {
		b.Fatal(err)
	}
	for name, decode := range map[string]func() error{
		"fast": func() error { _, err := decodeRow(raw); return err },
		"general": func() error {
			var w wireRow
			if err := dagcbor.Unmarshal(raw, &w); err != nil {
				return err
			}
			return checkRow(fromWire(w))
		},
	} {
		b.Run(fmt.Sprint(name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := decode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestARowCountThatDoesNotFitTakesNoMemory(t *testing.T) {
	const claimed = 900_000
	data := append([]byte(rowsPrefix), 4<<5|26, claimed>>24, claimed>>16&0xff, claimed>>8&0xff, claimed&0xff)
	data = append(data, make([]byte, claimed)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, ok := fastRows(data); ok {
		t.Error("zeros are rows")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > claimed {
		t.Errorf("%d bytes allocated for %d of input", got, len(data))
	}
}
