package main

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

var loadTitles = map[string]string{
	"small": "(a) 20,000 blocks of 4 KiB",
	"large": "(b) 2 GiB in blocks of 1 MiB",
	"go":    "(c) the Go toolchain's tree, a block a file or MiB",
}

const chunk = 1 << 20

// load makes the blocks; their hashes are the caller's work and not measured.
func load(name string) ([]blocks.Block, error) {
	switch name {
	case "small":
		return random(20000, 4096), nil
	case "large":
		return random(2048, chunk), nil
	default:
		return goTree()
	}
}

func random(n, size int) []blocks.Block {
	bs := make([]blocks.Block, n)
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			r := rand.NewChaCha8([32]byte{byte(g)})
			for i := g; i < n; i += 2 {
				data := make([]byte, size)
				r.Read(data)
				bs[i] = raw(data)
			}
		})
	}
	wg.Wait()
	return bs
}

func raw(data []byte) blocks.Block {
	h, err := mh.Sum(data, mh.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	b, err := blocks.NewBlockWithCid(data, cid.NewCidV1(cid.Raw, h))
	if err != nil {
		panic(err)
	}
	return b
}

// goTree is every different block of the toolchain's files.
func goTree() ([]blocks.Block, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	var bs []blocks.Block
	seen := make(map[cid.Cid]bool)
	err = filepath.WalkDir(strings.TrimSpace(string(out)), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for len(data) > 0 {
			n := min(len(data), chunk)
			if b := raw(data[:n]); !seen[b.Cid()] {
				seen[b.Cid()] = true
				bs = append(bs, b)
			}
			data = data[n:]
		}
		return err
	})
	return bs, err
}
