package snapshot_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/dagcbor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var sameCID = cmp.Comparer(func(x, y cid.Cid) bool { return x == y })

func node(t testing.TB, v any) blocks.Block {
	t.Helper()
	blk, err := dagcbor.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return blk
}

func sample(t testing.TB) *snapshot.Commit {
	parent := node(t, "parent").Cid()
	return &snapshot.Commit{
		Tree: node(t, "tree").Cid(), Meta: node(t, "meta").Cid(),
		Parents:  []cid.Cid{parent},
		Recent:   []snapshot.Ancestor{{CID: parent, Sequence: 4, Time: time.Unix(1700000000, 1).UTC()}},
		Older:    node(t, "older").Cid(),
		Volume:   "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8",
		Sequence: 5, Time: time.Unix(1700000001, 2).UTC(), Author: "12D3KooW", Message: "a message\n",
		Labels:      map[string]string{"b": "1", "aa": "2"},
		Import:      snapshot.ImportInfo{Profile: "unixfs-v1-2025", Chunker: "size-1048576"},
		Consistency: snapshot.Live,
		Stats:       snapshot.Stats{Files: 1, Dirs: 2, Symlinks: 3, Others: 4, Bytes: 5},
	}
}

func TestCommitReadsBackAsWritten(t *testing.T) {
	minimal := &snapshot.Commit{Tree: node(t, "tree").Cid(), Sequence: 1, Time: time.Unix(0, 0).UTC(), Consistency: snapshot.Clean, Labels: map[string]string{}}
	plain := *minimal
	plain.NoXattrs = true
	fork := sample(t)
	fork.Fork = snapshot.State{CID: fork.Parents[0], Sequence: fork.Sequence - 1}
	for name, want := range map[string]*snapshot.Commit{"full": sample(t), "minimal": minimal, "without xattrs": &plain, "fork": fork} {
		blk, err := snapshot.EncodeCommit(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := snapshot.DecodeCommit(blk)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, sameCID); diff != "" {
			t.Errorf("%s: commit differs (-written +read):\n%s", name, diff)
		}
		if !snapshot.IsCommit(blk) {
			t.Errorf("%s: not taken for a commit", name)
		}
	}
}

func TestCommitLinksToContentAndNotToItsParents(t *testing.T) {
	c := sample(t)
	blk, err := snapshot.EncodeCommit(c)
	if err != nil {
		t.Fatal(err)
	}
	links, err := snapshot.Links(blk)
	if err != nil {
		t.Fatal(err)
	}
	want := map[cid.Cid]bool{c.Tree: true, c.Meta: true, c.Older: true}
	for _, l := range links {
		if !want[l] {
			t.Errorf("links to %s", l)
		}
		delete(want, l)
	}
	if len(want) > 0 {
		t.Errorf("does not link to %v", want)
	}
}

func TestCommitEqualsTheGoldenFile(t *testing.T) {
	plain := sample(t)
	plain.NoXattrs = true
	equalsGolden(t, encoded(t, sample(t)), "commit.cbor")
	equalsGolden(t, encoded(t, plain), "commit-noxattrs.cbor")
	fork := sample(t)
	fork.Fork = snapshot.State{CID: fork.Parents[0], Sequence: fork.Sequence - 1}
	equalsGolden(t, encoded(t, fork), "commit-fork.cbor")
}

func encoded(t *testing.T, c *snapshot.Commit) blocks.Block {
	t.Helper()
	blk, err := snapshot.EncodeCommit(c)
	if err != nil {
		t.Fatal(err)
	}
	return blk
}

func equalsGolden(t *testing.T, blk blocks.Block, name string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, blk.RawData(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, blk.RawData()) {
		t.Errorf("%s: a published format has changed", name)
	}
}

func TestHistoryChunkEqualsTheGoldenFile(t *testing.T) {
	b := blockstest.NewMemory()
	last, _ := chain(t, b, snapshot.MaxRecent+2)
	blk, err := b.Get(t.Context(), last.Older)
	if err != nil {
		t.Fatal(err)
	}
	equalsGolden(t, blk, "history.cbor")
}

func TestCommitWhoseTextIsNotUTF8IsNotEncoded(t *testing.T) {
	for name, spoil := range map[string]func(*snapshot.Commit){
		"message":     func(c *snapshot.Commit) { c.Message = "caf\xe9" },
		"label":       func(c *snapshot.Commit) { c.Labels = map[string]string{"k": "\xe9"} },
		"label's key": func(c *snapshot.Commit) { c.Labels = map[string]string{"\xe9": "v"} },
	} {
		c := sample(t)
		spoil(c)
		if _, err := snapshot.EncodeCommit(c); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestCommitOfAnotherFormatIsRefused(t *testing.T) {
	blk, err := snapshot.EncodeCommit(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"later kind":         bytes.Replace(blk.RawData(), []byte("commit/1"), []byte("commit/2"), 1),
		"encrypted":          bytes.Replace(blk.RawData(), []byte("dnone"), []byte("dsome"), 1),
		"unknown field":      bytes.Replace(blk.RawData(), []byte("message"), []byte("massage"), 1),
		"consistency":        bytes.Replace(blk.RawData(), []byte("dlive"), []byte("ddead"), 1),
		"cut short":          blk.RawData()[:len(blk.RawData())-1],
		"something after it": append(bytes.Clone(blk.RawData()), 0),
	} {
		if bytes.Equal(data, blk.RawData()) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := snapshot.DecodeCommit(cborBlock(t, data)); !errors.Is(err, snapshot.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
	if later := cborBlock(t, bytes.Replace(blk.RawData(), []byte("commit/1"), []byte("commit/2"), 1)); !snapshot.IsCommit(later) {
		t.Error("a commit of a later format is not taken for a commit")
	}
}

func cborBlock(t testing.TB, data []byte) blocks.Block {
	t.Helper()
	c, err := cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_256, MhLength: -1}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	blk, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return blk
}

func FuzzCommitReencodesToTheSameBytes(f *testing.F) {
	blk, err := snapshot.EncodeCommit(sample(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blk.RawData())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := snapshot.DecodeCommit(cborBlock(t, data))
		if err != nil {
			if !errors.Is(err, snapshot.ErrFormat) {
				t.Fatalf("refused with %v, want ErrFormat", err)
			}
			return
		}
		again, err := snapshot.EncodeCommit(c)
		if err != nil || !bytes.Equal(again.RawData(), data) {
			t.Fatalf("what was read is written otherwise: %v", err)
		}
	})
}

func TestLinksRefuseUnknownCodecs(t *testing.T) {
	c, err := cid.Prefix{Version: 1, Codec: cid.GitRaw, MhType: mh.SHA2_256, MhLength: -1}.Sum([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	blk, err := blocks.NewBlockWithCid([]byte("x"), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.Links(blk); !errors.Is(err, snapshot.ErrFormat) || !strings.Contains(err.Error(), "unknown codec") {
		t.Errorf("%v, want an unknown codec", err)
	}
}
