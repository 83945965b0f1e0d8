package exchange_test

import (
	"bytes"
	"io"
	"slices"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/volary/volary/p2p/exchange"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

// coldBytes is the size of the file that is read, in chunks of 1 MiB.
const coldBytes = 1 << 30

func newStore(b testing.TB) *store.Store {
	b.Helper()
	s, err := store.Open(b.TempDir(), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// content is 1 GiB of chunks of which only one is random but for its first bytes.
func content() []blocks.Block {
	data := random(1 << 20)
	bs := make([]blocks.Block, coldBytes>>20)
	for i := range bs {
		chunk := slices.Clone(data)
		copy(chunk, random(32))
		bs[i] = blockstest.Raw(chunk)
	}
	return bs
}

// BenchmarkRawStream is what a libp2p stream carries between two hosts: what the others are compared with.
func BenchmarkRawStream(b *testing.B) {
	x, y := newHost(b), newHost(b)
	const protocol = "/test/raw"
	y.SetStreamHandler(protocol, func(s network.Stream) {
		defer s.Close()
		data := bytes.Repeat([]byte{1}, 1<<20)
		for range coldBytes >> 20 {
			if _, err := s.Write(data); err != nil {
				return
			}
		}
	})
	connect(b, x, y)
	buf := make([]byte, 1<<20)
	b.SetBytes(coldBytes)
	for b.Loop() {
		s, err := x.NewStream(b.Context(), y.ID(), protocol)
		if err != nil {
			b.Fatal(err)
		}
		s.CloseWrite()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, buf)
		if n != coldBytes || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkColdRead(b *testing.B) {
	bs := content()
	var from []host.Host
	for i := range 4 {
		s := newStore(b)
		if err := s.Put(b.Context(), bs...); err != nil {
			b.Fatal(err)
		}
		if err := s.Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
		h := newHost(b)
		newExchange(b, h, s, exchange.Options{})
		if i == 3 {
			h.RemoveStreamHandler(exchange.Protocol)
		}
		from = append(from, h)
	}
	for _, c := range []struct {
		name string
		from []host.Host
	}{{"from one peer", from[:1]}, {"from three peers", from[:3]}, {"by bitswap", from[3:]}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(coldBytes)
			for b.Loop() {
				b.StopTimer()
				h, local := newHost(b), newStore(b)
				layer := exchange.Through(local, newExchange(b, h, local, exchange.Options{}))
				connect(b, h, c.from...)
				b.StartTimer()
				readAll(b, layer, bs)
				b.StopTimer()
				h.Close()
				b.StartTimer()
			}
		})
	}
}

func readAll(b *testing.B, from snapshot.ManyGetter, bs []blocks.Block) {
	b.Helper()
	i := 0
	for blk, err := range from.GetMany(b.Context(), cids(bs)...) {
		if err != nil || blk.Cid() != bs[i].Cid() {
			b.Fatalf("block %d: %v", i, err)
		}
		i++
	}
}
