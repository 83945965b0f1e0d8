package kubo

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/blockstest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func aKeep() Keep {
	return Keep{
		Host:    "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
		Purpose: "head",
		Commit:  blockstest.Block(cid.DagCBOR, []byte{0xa0}).Cid(),
	}
}

func TestAKeepEqualsTheGoldenFile(t *testing.T) {
	blk, err := aKeep().Encode()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "golden", "keep.cbor")
	if *update {
		if err := os.WriteFile(file, blk.RawData(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(blk.RawData(), want) {
		t.Fatalf("encoded as %x, want %x", blk.RawData(), want)
	}
	if k, err := DecodeKeep(blk); err != nil || k != aKeep() {
		t.Fatalf("decoded as %v, %v", k, err)
	}
}

func TestAKeepThatCannotBeNamedIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Keep){
		"no commit":    func(k *Keep) { k.Commit = cid.Undef },
		"no host":      func(k *Keep) { k.Host = "" },
		"no purpose":   func(k *Keep) { k.Purpose = "" },
		"long":         func(k *Keep) { k.Purpose = strings.Repeat("p", maxText+1) },
		"not a text":   func(k *Keep) { k.Host = "\xff" },
		"not one word": func(k *Keep) { k.Purpose = "a/b" },
	} {
		k := aKeep()
		change(&k)
		if _, err := k.Encode(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzWhatDecodesAsAKeepEncodesToTheSame(f *testing.F) {
	blk, err := aKeep().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blk.RawData())
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := DecodeKeep(block(t, data))
		if err != nil {
			return
		}
		again, err := k.Encode()
		if err != nil || !bytes.Equal(again.RawData(), data) {
			t.Fatalf("%x becomes %v, %v", data, again, err)
		}
	})
}

func block(t *testing.T, data []byte) blocks.Block {
	t.Helper()
	return blockstest.Block(cid.DagCBOR, data)
}
