// Package blockstest says in tests what [snapshot.Blocks] promises. Start with [Run], which every
// implementation passes; [NewMemory] is one that lives in memory, for the tests of what stands on Blocks.
package blockstest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
)

// Run tests an implementation; open returns an empty one that lives as long as the test.
func Run(t *testing.T, open func(t *testing.T) snapshot.Blocks) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, snapshot.Blocks)
	}{
		{"what is put is got", testPutGet},
		{"what was never put is not found", testNotFound},
		{"sizes from empty to the limit", testSizes},
		{"a block above the limit is refused", testTooLarge},
		{"every codec and version of one multihash names one block", testMultihash},
		{"other hash functions", testHashes},
		{"identity CIDs need no store", testIdentity},
		{"an undefined CID is refused", testUndefined},
		{"putting again changes nothing", testAgain},
		{"one block twice in a call", testTwice},
		{"has answers in the order asked", testHas},
		{"many are got in the order asked, each with its own error", testMany},
		{"nothing asked is no error", testNothing},
		{"the caller's bytes are not kept", testReuse},
		{"wrong bytes are never returned", testWrong},
		{"a cancelled context stops", testCancelled},
		{"many at once", testConcurrent},
		{"equal blocks put at once", testSameAtOnce},
		{"blocks of one call become visible in order", testOrder},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open(t)) })
	}
}

// Raw makes a raw block of data.
func Raw(data []byte) blocks.Block { return Block(cid.Raw, data) }

// Block makes a block with a CIDv1 of sha2-256.
func Block(codec uint64, data []byte) blocks.Block {
	return newBlock(data, cid.NewCidV1(codec, sum(data, mh.SHA2_256)))
}

// Random makes n raw blocks of size bytes that depend on seed only.
func Random(seed uint64, n, size int) []blocks.Block {
	var key [32]byte
	key[0], key[1], key[2], key[3] = byte(seed), byte(seed>>8), byte(seed>>16), byte(seed>>24)
	r := rand.NewChaCha8(key)
	bs := make([]blocks.Block, n)
	for i := range bs {
		data := make([]byte, size)
		r.Read(data)
		bs[i] = Raw(data)
	}
	return bs
}

func newBlock(data []byte, c cid.Cid) blocks.Block {
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		panic(err) // only with the library's debug flag on and a wrong CID
	}
	return b
}

func sum(data []byte, code uint64) mh.Multihash {
	h, err := mh.Sum(data, code, -1)
	if err != nil {
		panic(err) // the code is not registered: a mistake in this file
	}
	return h
}

func put(t *testing.T, b snapshot.Blocks, bs ...blocks.Block) {
	t.Helper()
	if err := b.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
}

func wantBlock(t *testing.T, b snapshot.Blocks, c cid.Cid, data []byte) {
	t.Helper()
	got, err := b.Get(t.Context(), c)
	if err != nil {
		t.Fatalf("get %s: %v", c, err)
	}
	if !got.Cid().Equals(c) {
		t.Fatalf("asked for %s, got %s", c, got.Cid())
	}
	if !bytes.Equal(got.RawData(), data) {
		t.Fatalf("%s: %d other bytes, want %d", c, len(got.RawData()), len(data))
	}
}

func wantHas(t *testing.T, b snapshot.Blocks, want bool, cs ...cid.Cid) {
	t.Helper()
	got, err := b.Has(t.Context(), cs...)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(cs) {
		t.Fatalf("%d answers to %d questions", len(got), len(cs))
	}
	for i, c := range cs {
		if got[i] != want {
			t.Fatalf("has %s: %v, want %v", c, got[i], want)
		}
	}
}

func testPutGet(t *testing.T, b snapshot.Blocks) {
	bs := Random(1, 20, 1000)
	put(t, b, bs[:10]...)
	put(t, b, bs[10:]...)
	check := func() {
		t.Helper()
		for _, k := range bs {
			wantBlock(t, b, k.Cid(), k.RawData())
			wantHas(t, b, true, k.Cid())
		}
	}
	check()
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
	if err := b.Sync(t.Context()); err != nil {
		t.Fatalf("sync with nothing to do: %v", err)
	}
}

func testNotFound(t *testing.T, b snapshot.Blocks) {
	c := Raw([]byte("nobody put this")).Cid()
	if _, err := b.Get(t.Context(), c); !errors.Is(err, snapshot.ErrNotFound) && !errors.Is(err, snapshot.ErrUnavailable) {
		t.Fatalf("got %v, want not found or unavailable", err)
	}
	wantHas(t, b, false, c)
}

func testSizes(t *testing.T, b snapshot.Blocks) {
	for _, size := range []int{0, 1, 255, 4096, 64<<10 - 1, 64 << 10, 256 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, snapshot.MaxBlockSize} {
		k := Random(uint64(size), 1, size)[0]
		put(t, b, k)
		wantBlock(t, b, k.Cid(), k.RawData())
	}
}

func testTooLarge(t *testing.T, b snapshot.Blocks) {
	k := Raw(make([]byte, snapshot.MaxBlockSize+1))
	if err := b.Put(t.Context(), k); err == nil {
		t.Fatal("a block above MaxBlockSize was accepted")
	}
	wantHas(t, b, false, k.Cid())
}

func testMultihash(t *testing.T, b snapshot.Blocks) {
	data := []byte{0x0a, 0x02, 0x08, 0x01} // an empty UnixFS directory, a valid dag-pb node
	h := sum(data, mh.SHA2_256)
	put(t, b, newBlock(data, cid.NewCidV1(cid.DagProtobuf, h)))
	for _, c := range []cid.Cid{cid.NewCidV1(cid.DagProtobuf, h), cid.NewCidV0(h), cid.NewCidV1(cid.Raw, h), cid.NewCidV1(cid.DagCBOR, h)} {
		wantHas(t, b, true, c)
		wantBlock(t, b, c, data)
	}
	other := []byte{0x0a, 0x02, 0x08, 0x02}
	put(t, b, newBlock(other, cid.NewCidV0(sum(other, mh.SHA2_256))))
	wantBlock(t, b, cid.NewCidV1(cid.DagProtobuf, sum(other, mh.SHA2_256)), other)
}

func testHashes(t *testing.T, b snapshot.Blocks) {
	for _, code := range []uint64{mh.SHA2_512, mh.SHA1, mh.BLAKE2B_MIN + 31, mh.BLAKE3} {
		data := fmt.Appendf(nil, "hashed with %x", code)
		k := newBlock(data, cid.NewCidV1(cid.Raw, sum(data, code)))
		put(t, b, k)
		wantBlock(t, b, k.Cid(), data)
	}
}

func testIdentity(t *testing.T, b snapshot.Blocks) {
	data := []byte("the name is the data")
	c := cid.NewCidV1(cid.Raw, sum(data, mh.IDENTITY))
	wantHas(t, b, true, c)
	wantBlock(t, b, c, data)
	put(t, b, newBlock(data, c))
	wantBlock(t, b, c, data)
}

func testUndefined(t *testing.T, b snapshot.Blocks) {
	if _, err := b.Get(t.Context(), cid.Undef); err == nil {
		t.Fatal("got a block by no name")
	}
}

func testAgain(t *testing.T, b snapshot.Blocks) {
	k := Random(7, 1, 5000)[0]
	for range 3 {
		put(t, b, k)
		if err := b.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantBlock(t, b, k.Cid(), k.RawData())
	}
}

func testTwice(t *testing.T, b snapshot.Blocks) {
	bs := Random(8, 2, 300)
	put(t, b, bs[0], bs[1], bs[0], bs[0])
	wantBlock(t, b, bs[0].Cid(), bs[0].RawData())
	wantBlock(t, b, bs[1].Cid(), bs[1].RawData())
}

func testHas(t *testing.T, b snapshot.Blocks) {
	bs := Random(9, 50, 100)
	var cs []cid.Cid
	for i, k := range bs {
		if i%3 == 0 {
			put(t, b, k)
		}
		cs = append(cs, k.Cid())
	}
	got, err := b.Has(t.Context(), cs...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range bs {
		if got[i] != (i%3 == 0) {
			t.Fatalf("block %d: %v", i, got[i])
		}
	}
}

func testNothing(t *testing.T, b snapshot.Blocks) {
	put(t, b)
	if got, err := b.Has(t.Context()); err != nil || len(got) != 0 {
		t.Fatalf("has of nothing: %v, %v", got, err)
	}
	for got, err := range snapshot.GetMany(t.Context(), b) {
		t.Fatalf("got %v, %v of nothing", got, err)
	}
}

func testReuse(t *testing.T, b snapshot.Blocks) {
	for _, size := range []int{100, 1 << 20} {
		data := bytes.Repeat([]byte{1}, size)
		want := bytes.Clone(data)
		k := Raw(data)
		put(t, b, k)
		clear(data)
		wantBlock(t, b, k.Cid(), want)
	}
}

// testWrong puts bytes under a CID that is not theirs, against the contract; what comes back, if anything,
// must still be right.
func testWrong(t *testing.T, b snapshot.Blocks) {
	c := Raw([]byte("right")).Cid()
	if err := b.Put(t.Context(), newBlock([]byte("wrong"), c)); err != nil {
		return
	}
	got, err := b.Get(t.Context(), c)
	if err == nil {
		t.Fatalf("got %q for the CID of %q", got.RawData(), "right")
	}
	if !errors.Is(err, snapshot.ErrDamaged) {
		t.Fatalf("got %v, want damaged", err)
	}
}

func testCancelled(t *testing.T, b snapshot.Blocks) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	k := Random(10, 1, 100)[0]
	if err := b.Put(ctx, k); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if _, err := b.Get(ctx, k.Cid()); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	if _, err := b.Has(ctx, k.Cid()); !errors.Is(err, context.Canceled) {
		t.Errorf("has: %v", err)
	}
	for _, err := range snapshot.GetMany(ctx, b, k.Cid()) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("get many: %v", err)
		}
	}
}

func testConcurrent(t *testing.T, b snapshot.Blocks) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			bs := append(Random(uint64(100+g), 40, 700), Random(uint64(200+g), 4, 300<<10)...)
			for i, k := range bs {
				if err := b.Put(t.Context(), k); err != nil {
					t.Error(err)
					return
				}
				got, err := b.Get(t.Context(), k.Cid())
				if err != nil || sha256.Sum256(got.RawData()) != sha256.Sum256(k.RawData()) {
					t.Errorf("get what this goroutine put: %v", err)
					return
				}
				if i%16 == 0 {
					if err := b.Sync(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func testSameAtOnce(t *testing.T, b snapshot.Blocks) {
	bs := Random(11, 30, 2000)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for _, k := range bs {
				if err := b.Put(t.Context(), k); err != nil {
					t.Error(err)
					return
				}
				if has, err := b.Has(t.Context(), k.Cid()); err != nil || !has[0] {
					t.Errorf("absent after put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, k := range bs {
		wantBlock(t, b, k.Cid(), k.RawData())
	}
}

func testOrder(t *testing.T, b snapshot.Blocks) {
	bs := Random(12, 200, 3000)
	first, last := bs[0].Cid(), bs[len(bs)-1].Cid()
	done := make(chan error, 1)
	go func() { done <- b.Put(t.Context(), bs...) }()
	for {
		// The last is asked for first: if it is there, the first must be.
		got, err := b.Has(t.Context(), last)
		if err != nil {
			t.Fatal(err)
		}
		before, err := b.Has(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		if got[0] && !before[0] {
			t.Fatal("the last block of a call is visible before the first")
		}
		if got[0] {
			break
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
