package api

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// A batch of a snapshot crosses the socket in each turn, from four writers at a time.
func BenchmarkPutOverTheSocket(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			h := benchHost(b)
			bs := blockstest.Random(1, (2<<20)/size, size)
			b.SetBytes(2 << 20)
			parallel(b, 4, func(int) error { return h.Blocks.Put(b.Context(), bs...) })
		})
	}
}

func BenchmarkGetOverTheSocket(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			h := benchHost(b)
			bs := blockstest.Random(1, 64, size)
			if err := h.Blocks.Put(b.Context(), bs...); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			parallel(b, 4, func(i int) error {
				_, err := h.Blocks.Get(b.Context(), bs[i%len(bs)].Cid())
				return err
			})
		})
	}
}

func benchHost(b *testing.B) *Host {
	mem := newMemoryHost()
	h := mem.host()
	h.Blocks = &unchecked{Memory: mem.Memory}
	return dial(b, serve(b, h, ServerOptions{}))
}

// unchecked takes no time of its own.
type unchecked struct {
	*blockstest.Memory
	all sync.Map
}

func (u *unchecked) Put(_ context.Context, bs ...blocks.Block) error {
	for _, b := range bs {
		if _, ok := u.all.Load(b.Cid()); !ok {
			u.all.Store(b.Cid(), bytes.Clone(b.RawData()))
		}
	}
	return nil
}

func (u *unchecked) GetInto(_ context.Context, c cid.Cid, _ []byte) ([]byte, error) {
	data, ok := u.all.Load(c)
	if !ok {
		return nil, snapshot.ErrNotFound
	}
	return data.([]byte), nil
}

func parallel(b *testing.B, workers int, do func(i int) error) {
	b.ResetTimer()
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range b.N {
		next <- i
	}
	close(next)
	wg.Wait()
}
