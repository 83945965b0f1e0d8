package unixfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// pb stores a dag-pb node of any links and data, and returns it as a link without a name.
func pb(t testing.TB, s *store, data []byte, links ...Child) Child {
	t.Helper()
	b := newBlock(cid.DagProtobuf, encode(links, data))
	if err := s.Put(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return Child{CID: b.Cid()}
}

func raw(t testing.TB, s *store, data string) Child {
	t.Helper()
	b := Leaf([]byte(data))
	if err := s.Put(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return Child{CID: b.Cid(), Tsize: uint64(len(data))}
}

func named(name string, c Child) Child {
	c.Name = name
	return c
}

func fileData(declared uint64, sizes ...uint64) []byte {
	return appendData(nil, fsData{typ: typeFile, declared: declared, sizes: sizes})
}

func shardData(bitmap []byte, fanout uint64) []byte {
	return appendData(nil, fsData{typ: typeShard, data: bitmap, hash: murmur3Code, fanout: fanout})
}

// bitmap has the given positions of a shard of 256 children.
func bitmap(positions ...int) []byte {
	b := make([]byte, fanout/8)
	for _, p := range positions {
		b[len(b)-1-p/8] |= 1 << (p % 8)
	}
	return b
}

func chunks(t testing.TB, s *store, file cid.Cid, limit int) (n int, err error) {
	for _, err := range Chunks(t.Context(), s, file) {
		if err != nil {
			return n, err
		}
		if n++; n == limit {
			break
		}
	}
	return n, nil
}

func TestHostileFilesAreRefused(t *testing.T) {
	s := newStore()
	leaf := raw(t, s, "leaf")
	deep := leaf
	for range maxFileDepth + 2 {
		deep = pb(t, s, fileData(4, 4), deep)
	}
	for name, file := range map[string]Child{
		"sizes that do not add up":        pb(t, s, fileData(9, 4), leaf),
		"more links than sizes":           pb(t, s, fileData(4, 4), leaf, leaf),
		"more sizes than links":           pb(t, s, fileData(8, 4, 4), leaf),
		"sizes that overflow":             pb(t, s, fileData(2, math.MaxUint64, 3), leaf, leaf),
		"larger than off_t":               pb(t, s, fileData(1<<63, 1<<62, 1<<62), leaf, leaf),
		"a leaf larger than a block":      pb(t, s, fileData(3<<20, 3<<20), leaf),
		"a child of another size":         pb(t, s, fileData(9, 9), pb(t, s, fileData(4, 4), leaf)),
		"a directory inside":              pb(t, s, fileData(4, 4), pb(t, s, appendData(nil, fsData{typ: typeDirectory}))),
		"a symlink inside":                pb(t, s, fileData(1, 1), pb(t, s, appendData(nil, fsData{typ: typeSymlink, data: []byte("x")}))),
		"deeper than any layout":          deep,
		"a link of an unknown codec":      pb(t, s, fileData(4, 4), Child{CID: cid.NewCidV1(cid.GitRaw, leaf.CID.Hash())}),
		"a directory for a file":          pb(t, s, appendData(nil, fsData{typ: typeDirectory})),
		"no unixfs message":               pb(t, s, []byte{0xff}),
		"an unknown type":                 pb(t, s, []byte{8, 9}),
		"no type":                         pb(t, s, nil),
		"data declared larger than it is": pb(t, s, appendData(nil, fsData{typ: typeFile, data: []byte("x"), declared: 7})),
	} {
		if _, err := chunks(t, s, file.CID, -1); !errors.Is(err, snapshot.ErrFormat) {
			t.Errorf("%s: err = %v, want one of the format", name, err)
		}
	}
}

func TestAnExponentialFileIsReadNoFurtherThanAsked(t *testing.T) {
	s := newStore()
	node, size := raw(t, s, "x"), uint64(1)
	empty := pb(t, s, fileData(0))
	for range 5 {
		links, sizes := slices.Repeat([]Child{node}, 1000), slices.Repeat([]uint64{size}, 1000)
		node, size = pb(t, s, fileData(size*1000, sizes...), links...), size*1000
		empty = pb(t, s, fileData(0, make([]uint64, 1000)...), slices.Repeat([]Child{empty}, 1000)...)
	}
	if n, err := chunks(t, s, node.CID, 10); n != 10 || err != nil {
		t.Errorf("%d chunks, %v; want the ten asked for", n, err)
	}
	// Parts without content never bring a reader on; there are 10^15 of them here.
	if n, err := chunks(t, s, empty.CID, -1); n != 0 || err != nil {
		t.Errorf("%d chunks, %v; want none", n, err)
	}
}

func TestHostileDirectoriesAreRefused(t *testing.T) {
	s := newStore()
	dir := appendData(nil, fsData{typ: typeDirectory})
	leaf := raw(t, s, "leaf")
	hash := hashName("name")
	at := int(hash >> 56)
	entry := named(fmt.Sprintf("%02Xname", at), leaf)
	empty := pb(t, s, shardData(nil, fanout))
	exponential := pb(t, s, shardData(nil, fanout))
	for range 7 {
		var links []Child
		var all []int
		for i := range fanout {
			links, all = append(links, named(fmt.Sprintf("%02X", i), exponential)), append(all, i)
		}
		exponential = pb(t, s, shardData(bitmap(all...), fanout), links...)
	}
	chain := entry.CID
	for i := range 9 {
		chain = pb(t, s, shardData(bitmap(i), fanout), named(fmt.Sprintf("%02X", i), Child{CID: chain})).CID
	}
	below := pb(t, s, shardData(bitmap(int(hash>>48&255)), fanout), named(fmt.Sprintf("%02Xname", hash>>48&255), leaf))
	other := (at + 1) % fanout
	twice := []Child{named(fmt.Sprintf("%02X", min(at, other)), below), named(fmt.Sprintf("%02X", max(at, other)), below)}
	for name, d := range map[string]cid.Cid{
		"an empty name":               pb(t, s, dir, named("", leaf)).CID,
		"a dot":                       pb(t, s, dir, named(".", leaf)).CID,
		"two dots":                    pb(t, s, dir, named("..", leaf)).CID,
		"a slash":                     pb(t, s, dir, named("a/b", leaf)).CID,
		"a NUL":                       pb(t, s, dir, named("a\x00", leaf)).CID,
		"a name too long":             pb(t, s, dir, named(strings.Repeat("n", 256), leaf)).CID,
		"a name twice":                pb(t, s, dir, named("a", leaf), named("b", leaf), named("a", leaf)).CID,
		"a file":                      leaf.CID,
		"a file node":                 pb(t, s, fileData(0)).CID,
		"a bitmap without its link":   pb(t, s, shardData(bitmap(at, other), fanout), entry).CID,
		"a link without its bit":      pb(t, s, shardData(bitmap(other), fanout), entry).CID,
		"a bitmap too long":           pb(t, s, shardData(append([]byte{1}, bitmap(at)...), fanout), entry).CID,
		"a name not where it hashes":  pb(t, s, shardData(bitmap(other), fanout), named(fmt.Sprintf("%02Xname", other), leaf)).CID,
		"a name without a position":   pb(t, s, shardData(bitmap(at), fanout), named("name", leaf)).CID,
		"a position in small letters": pb(t, s, shardData(bitmap(0xab), fanout), named("ab", below)).CID,
		"a bad name in a shard":       pb(t, s, shardData(bitmap(int(hashName("..")>>56)), fanout), named(fmt.Sprintf("%02X..", hashName("..")>>56), leaf)).CID,
		"an empty shard below":        pb(t, s, shardData(bitmap(1), fanout), named("01", empty)).CID,
		"a shard in two places":       pb(t, s, shardData(bitmap(at, other), fanout), twice...).CID,
		"exponentially many shards":   exponential.CID,
		"a chain longer than a hash":  chain,
		"no fanout":                   pb(t, s, shardData(nil, 0)).CID,
		"an odd fanout":               pb(t, s, shardData(nil, 100)).CID,
		"an absurd fanout":            pb(t, s, shardData(nil, 1<<40)).CID,
		"an unknown hash":             pb(t, s, appendData(nil, fsData{typ: typeShard, hash: 1, fanout: fanout})).CID,
		"a file for a shard":          pb(t, s, shardData(bitmap(1), fanout), named("01", pb(t, s, fileData(0)))).CID,
	} {
		if _, err := List(t.Context(), s, d); !errors.Is(err, snapshot.ErrFormat) {
			t.Errorf("%s: err = %v, want one of the format", name, err)
		}
	}
}

func TestAMissingBlockIsSaidToBeMissing(t *testing.T) {
	s := newStore()
	gone := Leaf([]byte("gone")).Cid()
	for range Chunks(t.Context(), s, gone) {
	}
	if _, err := List(t.Context(), s, newBlock(cid.DagProtobuf, []byte("gone")).Cid()); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("err = %v", err)
	}
	if _, err := chunks(t, s, gone, -1); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("err = %v", err)
	}
}

func TestSymlinksWithImpossibleTargetsAreRefused(t *testing.T) {
	s := newStore()
	for _, target := range []string{"", "a\x00b", strings.Repeat("t", MaxTarget+1)} {
		b, err := s.Get(t.Context(), pb(t, s, appendData(nil, fsData{typ: typeSymlink, data: []byte(target)})).CID)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := Stat(b); !errors.Is(err, snapshot.ErrFormat) {
			t.Errorf("%.10q: %+v, %v", target, n, err)
		}
	}
}

// FuzzNodesAreReadAsBoxoReadsThem: what is accepted here is accepted there, and means the same.
func FuzzNodesAreReadAsBoxoReadsThem(f *testing.F) {
	s := newStore()
	leaf := raw(f, s, "leaf")
	for _, c := range []Child{
		pb(f, s, fileData(8, 4, 4), leaf, leaf),
		pb(f, s, appendData(nil, fsData{typ: typeDirectory}), named("a", leaf), named("b", leaf)),
		pb(f, s, shardData(bitmap(3), fanout), named("03x", leaf)),
		pb(f, s, appendData(nil, fsData{typ: typeSymlink, data: []byte("x")})),
	} {
		f.Add(s.m[c.CID].RawData())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBlock(cid.DagProtobuf, data)
		n, err := decode(b)
		if err != nil {
			if !errors.Is(err, snapshot.ErrFormat) {
				t.Errorf("err = %v, want one of the format", err)
			}
			return
		}
		nd, err := merkledag.DecodeProtobuf(data)
		if err != nil {
			t.Fatalf("accepted what boxo refuses: %v", err)
		}
		var links []Child
		for _, l := range nd.Links() {
			links = append(links, Child{Name: l.Name, CID: l.Cid, Tsize: l.Size})
		}
		if !slices.Equal(links, n.links) {
			t.Errorf("links %v, boxo has %v", n.links, links)
		}
		fsn, err := unixfs.FSNodeFromBytes(nd.Data())
		if err != nil {
			t.Fatalf("accepted what boxo refuses: %v", err)
		}
		if uint64(fsn.Type()) != n.typ || !bytes.Equal(fsn.Data(), n.data) || !slices.Equal(fsn.BlockSizes(), n.sizes) ||
			fsn.HashType() != n.hash || fsn.Fanout() != n.fanout || n.hasSize && n.declared != fsn.FileSize() && n.typ == typeFile {
			t.Errorf("%+v differs from boxo's", n)
		}
		_, _ = Stat(b)
	})
}

// FuzzTreesAreListedOrRefused reads DAGs of two blocks that the fuzzer makes, one of which may link the other.
func FuzzTreesAreListedOrRefused(f *testing.F) {
	f.Add([]byte("leaf"), shardData(bitmap(3), fanout), "03", true)
	f.Add(shardData(bitmap(int(hashName("n")>>48&255)), fanout), shardData(bitmap(int(hashName("n")>>56)), fanout), "n", false)
	f.Fuzz(func(t *testing.T, inner, outer []byte, name string, isRaw bool) {
		s := newStore()
		var in blocks.Block
		if isRaw {
			in = Leaf(inner)
		} else {
			in = newBlock(cid.DagProtobuf, inner)
		}
		if err := s.Put(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		root := pb(t, s, outer, named(name, Child{CID: in.Cid()}))
		ctx := context.Background()
		cs, err := List(ctx, s, root.CID)
		if err == nil {
			for _, c := range cs {
				if got, ok, err := Find(ctx, s, root.CID, c.Name); err != nil || !ok || got != c {
					t.Errorf("listed %+v, found %+v, %v, %v", c, got, ok, err)
				}
			}
		} else if !errors.Is(err, snapshot.ErrFormat) && !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("err = %v", err)
		}
		offset := uint64(0)
		for c, err := range Chunks(ctx, s, root.CID) {
			if err != nil {
				break
			}
			if c.Offset != offset || c.Size == 0 {
				t.Fatalf("chunk %+v at %d", c, offset)
			}
			offset += c.Size
		}
	})
}
