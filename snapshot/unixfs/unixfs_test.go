package unixfs

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/volary/volary/snapshot"
)

// store is the least that reads and writes need.
type store struct {
	mu sync.Mutex
	m  map[cid.Cid]blocks.Block
}

func newStore() *store { return &store{m: map[cid.Cid]blocks.Block{}} }

func (s *store) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.m[c]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("get %s: %w", c, snapshot.ErrNotFound)
}

func (s *store) Put(_ context.Context, bs ...blocks.Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range bs {
		s.m[b.Cid()] = b
	}
	return nil
}

func boxoDAG() ipld.DAGService {
	bs := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	return merkledag.NewDAGService(blockservice.New(bs, offline.Exchange(bs)))
}

func boxoFile(t *testing.T, data []byte, chunkSize int64, width int) ipld.Node {
	t.Helper()
	p := uio.UnixFS_v1_2025
	par := helpers.DagBuilderParams{Maxlinks: width, RawLeaves: true, CidBuilder: p.CidBuilder(), Dagserv: boxoDAG()}
	db, err := par.New(chunk.NewSizeSplitter(bytes.NewReader(data), chunkSize))
	if err != nil {
		t.Fatal(err)
	}
	nd, err := balanced.Layout(db)
	if err != nil {
		t.Fatal(err)
	}
	return nd
}

func buildFile(t *testing.T, s *store, data []byte, chunkSize, width int) Child {
	t.Helper()
	f := NewFileBuilder(s)
	f.width = width
	for c := range slices.Chunk(data, chunkSize) {
		leaf := Leaf(c)
		if err := s.Put(t.Context(), leaf); err != nil {
			t.Fatal(err)
		}
		if err := f.Add(t.Context(), leaf.Cid(), uint64(len(c))); err != nil {
			t.Fatal(err)
		}
	}
	c, err := f.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFilesAreLaidOutAsBoxoDoesAndReadBack(t *testing.T) {
	const size = 3
	for _, tc := range []struct{ leaves, width int }{
		{0, FileLinks}, {1, FileLinks}, {2, FileLinks}, {1023, FileLinks}, {1024, FileLinks}, {1025, FileLinks},
		{2048, FileLinks}, {2049, FileLinks}, {20_000, FileLinks},
		// Narrow nodes reach the levels that take 1 TiB with wide ones.
		{4, 4}, {5, 4}, {16, 4}, {17, 4}, {64, 4}, {65, 4}, {68, 4}, {69, 4}, {80, 4}, {81, 4}, {256, 4}, {257, 4}, {1000, 4},
	} {
		data := make([]byte, tc.leaves*size)
		for i := range data {
			data[i] = byte(i % 251)
		}
		if tc.leaves > 1 {
			data = data[:len(data)-1]
		}
		s := newStore()
		got := buildFile(t, s, data, size, tc.width)
		want := boxoFile(t, data, size, tc.width)
		wantSize, _ := want.Size()
		if got.CID != want.Cid() || got.Tsize != wantSize {
			t.Fatalf("%+v: got %s (%d), boxo makes %s (%d)", tc, got.CID, got.Tsize, want.Cid(), wantSize)
		}
		checkFile(t, s, got.CID, data)
	}
}

func checkFile(t *testing.T, s *store, file cid.Cid, data []byte) {
	t.Helper()
	root, err := s.Get(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Stat(root); err != nil || n.Kind != File || n.Size != uint64(len(data)) {
		t.Fatalf("Stat = %+v, %v; want a file of %d bytes", n, err, len(data))
	}
	var back []byte
	for c, err := range Chunks(t.Context(), s, file) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Offset != uint64(len(back)) {
			t.Fatalf("chunk at %d, want %d", c.Offset, len(back))
		}
		if c.Data == nil {
			b, err := s.Get(t.Context(), c.CID)
			if err != nil {
				t.Fatal(err)
			}
			c.Data = b.RawData()
		}
		if uint64(len(c.Data)) != c.Size {
			t.Fatalf("chunk of %d bytes declares %d", len(c.Data), c.Size)
		}
		back = append(back, c.Data...)
	}
	if !bytes.Equal(back, data) {
		t.Fatalf("read %d bytes back that differ from the %d written", len(back), len(data))
	}
}

func TestASecondFileOfABuilderIsIndependentOfTheFirst(t *testing.T) {
	s := newStore()
	f := NewFileBuilder(s)
	for _, n := range []int{1025, 0, 1, 2, 1025} {
		data := bytes.Repeat([]byte{byte(n)}, n)
		for i := range data {
			leaf := Leaf(data[i : i+1])
			if err := f.Add(t.Context(), leaf.Cid(), 1); err != nil {
				t.Fatal(err)
			}
		}
		got, err := f.Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := boxoFile(t, data, 1, FileLinks).Cid(); got.CID != want {
			t.Errorf("%d leaves: got %s, boxo makes %s", n, got.CID, want)
		}
	}
}

// boxoDir builds a directory of the entries with boxo, each of them the node of the same content.
func boxoDir(t *testing.T, names []string, content func(name string) []byte) ipld.Node {
	t.Helper()
	p := uio.UnixFS_v1_2025
	dag := boxoDAG()
	d, err := uio.NewDirectory(dag, uio.WithCidBuilder(p.CidBuilder()), uio.WithMaxHAMTFanout(p.HAMTShardWidth),
		uio.WithMaxLinks(0), uio.WithSizeEstimationMode(p.HAMTSizeEstimation))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		nd, err := merkledag.NewRawNodeWPrefix(content(name), p.CidBuilder().WithCodec(cid.Raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.AddChild(t.Context(), name, nd); err != nil {
			t.Fatal(err)
		}
	}
	nd, err := d.GetNode()
	if err != nil {
		t.Fatal(err)
	}
	return nd
}

func dirEntries(names []string, content func(name string) []byte) []Child {
	var es []Child
	for _, name := range names {
		data := content(name)
		es = append(es, Child{Name: name, CID: Leaf(data).Cid(), Tsize: uint64(len(data))})
	}
	slices.SortFunc(es, func(a, b Child) int { return strings.Compare(a.Name, b.Name) })
	return es
}

func TestDirectoriesAreAsBoxoMakesThemAndReadBack(t *testing.T) {
	content := func(name string) []byte { return []byte(name[:len(name)%7]) }
	numbered := func(n int, format string) []string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf(format, i)
		}
		return names
	}
	// A link with a name of 200 bytes takes 1+2+(1+1+36)+(1+2+200)+(1+1) = 246 bytes, the node without links 4:
	// 1065 links make 261,994 bytes, and a name of 105 bytes (45 more in all) makes 256 KiB.
	atThreshold := func(last int) []string {
		return append(numbered(1065, "%0200d"), strings.Repeat("x", last))
	}
	for name, names := range map[string][]string{
		"empty":                nil,
		"one":                  {"one"},
		"odd names":            {"a\nb", " ", "\"q\"", ".hidden", "\xff\xfe", "ü", strings.Repeat("n", 255)},
		"below the threshold":  atThreshold(104),
		"at the threshold":     atThreshold(105),
		"above the threshold":  atThreshold(106),
		"far above":            numbered(5000, "a-long-name-to-get-above-the-threshold-%0100d"),
		"shards inside shards": numbered(100_000, "%d"),
	} {
		t.Run(name, func(t *testing.T) {
			s, entries := newStore(), dirEntries(names, content)
			got, err := WriteDir(t.Context(), s, entries)
			if err != nil {
				t.Fatal(err)
			}
			want := boxoDir(t, names, content)
			wantSize, _ := want.Size()
			if got.CID != want.Cid() || got.Tsize != wantSize {
				t.Errorf("got %s (%d), boxo makes %s (%d)", got.CID, got.Tsize, want.Cid(), wantSize)
			}
			back, err := List(t.Context(), s, got.CID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(entries, back, cmp.Comparer(func(a, b cid.Cid) bool { return a == b })); diff != "" {
				t.Errorf("listed (-want +got):\n%s", diff)
			}
			for i := 0; i < len(entries); i += 1 + len(entries)/50 {
				c, ok, err := Find(t.Context(), s, got.CID, entries[i].Name)
				if err != nil || !ok || c != entries[i] {
					t.Fatalf("Find(%q) = %+v, %v, %v; want %+v", entries[i].Name, c, ok, err, entries[i])
				}
			}
			if _, ok, err := Find(t.Context(), s, got.CID, "absent"); ok || err != nil {
				t.Errorf("Find of an absent name = %v, %v", ok, err)
			}
		})
	}
}

func TestTheShardingThresholdIsWhereTheBlockExceeds256KiB(t *testing.T) {
	kind := func(last int) uint64 {
		names := make([]string, 0, 1066)
		for i := range 1065 {
			names = append(names, fmt.Sprintf("%0200d", i))
		}
		s := newStore()
		c, err := WriteDir(t.Context(), s, dirEntries(append(names, strings.Repeat("x", last)), func(string) []byte { return nil }))
		if err != nil {
			t.Fatal(err)
		}
		n, err := get(t.Context(), s, c.CID)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := s.Get(t.Context(), c.CID); n.typ == typeDirectory && len(b.RawData()) != shardSize {
			t.Errorf("unsharded directory of %d bytes, want exactly the threshold", len(b.RawData()))
		}
		return n.typ
	}
	if got := []uint64{kind(105), kind(106)}; got[0] != typeDirectory || got[1] != typeShard {
		t.Errorf("types around the threshold = %v, want a directory and a shard", got)
	}
}

func TestSymlinksAreAsBoxoMakesThem(t *testing.T) {
	for _, target := range []string{"x", "../a b\n\xff", strings.Repeat("t", MaxTarget)} {
		data, err := unixfs.SymlinkData(target)
		if err != nil {
			t.Fatal(err)
		}
		nd := merkledag.NodeWithData(data)
		if err := nd.SetCidBuilder(uio.UnixFS_v1_2025.CidBuilder()); err != nil {
			t.Fatal(err)
		}
		s := newStore()
		got, err := WriteSymlink(t.Context(), s, target)
		if err != nil {
			t.Fatal(err)
		}
		if got.CID != nd.Cid() {
			t.Errorf("symlink to %.20q: got %s, boxo makes %s", target, got.CID, nd.Cid())
		}
		b, _ := s.Get(t.Context(), got.CID)
		if n, err := Stat(b); err != nil || n.Kind != Symlink || n.Target != target {
			t.Errorf("Stat = %+v, %v; want a symlink to %.20q", n, err, target)
		}
	}
	for _, target := range []string{"", "a\x00b", strings.Repeat("t", MaxTarget+1)} {
		if _, err := WriteSymlink(t.Context(), newStore(), target); err == nil {
			t.Errorf("symlink to %.20q was written", target)
		}
	}
}
