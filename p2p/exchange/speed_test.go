package exchange_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/sys/unix"

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
	before := processorTime(b)
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
	b.ReportMetric((processorTime(b)-before).Seconds()/float64(b.N), "cpu-s/op")
}

// BenchmarkColdRead reads what is nowhere on the host that reads, and is stored there. All peers have one store, so that
// what their disks do is not measured.
func BenchmarkColdRead(b *testing.B) {
	bs := content()
	far := newStore(b)
	for _, blk := range bs {
		if err := far.Put(b.Context(), blk); err != nil {
			b.Fatal(err)
		}
	}
	if err := far.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	var from []host.Host
	for range 4 {
		h := newHost(b)
		newExchange(b, h, far, exchange.Options{})
		from = append(from, h)
	}
	from[3].RemoveStreamHandler(exchange.Protocol)
	for _, c := range []struct {
		name string
		from []host.Host
		keep bool
	}{
		{"from one peer", from[:1], true},
		{"from three peers", from[:3], true},
		{"by bitswap", from[3:], true},
		{"from one peer, not kept", from[:1], false},
		{"by bitswap, not kept", from[3:], false},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(coldBytes)
			used := time.Duration(0)
			for b.Loop() {
				b.StopTimer()
				h := newHost(b)
				var local snapshot.Blocks = forgetful{blockstest.NewMemory()}
				if c.keep {
					local = newStore(b)
				}
				x := newExchange(b, h, local, exchange.Options{})
				layer := exchange.Through(local, x)
				connect(b, h, c.from...)
				before := processorTime(b)
				b.StartTimer()
				readAll(b, layer, bs)
				b.StopTimer()
				used += processorTime(b) - before
				x.Close()
				h.Close()
				if s, ok := local.(*store.Store); ok {
					s.Sync(b.Context())
					s.Close()
				}
				b.StartTimer()
			}
			b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s/op")
		})
	}
}

// forgetful keeps nothing.
type forgetful struct{ *blockstest.Memory }

func (forgetful) Put(context.Context, ...blocks.Block) error { return nil }

// processorTime is what this process has used, with all hosts in it.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
