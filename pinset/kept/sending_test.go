package kept

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot/blockstest"
)

// taken is what a sender sent, by multihash, as it was when it was sent.
type taken struct {
	mu    sync.Mutex
	sums  map[string][sha256.Size]byte
	calls int
	err   error
	stop  chan struct{} // if not nil, every call waits for it
}

func (k *taken) put(ctx context.Context, bs ...blocks.Block) error {
	if k.stop != nil {
		select {
		case <-k.stop:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	for _, b := range bs {
		k.sums[string(b.Cid().Hash())] = sha256.Sum256(b.RawData())
	}
	return k.err
}

// addAll adds blocks of several sizes by several goroutines, each of which uses its memory again at once.
func addAll(t *testing.T, s *sender, all []blocks.Block) {
	t.Helper()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			buf := make([]byte, 2<<20)
			for i := g; i < len(all); i += 4 {
				n := copy(buf, all[i].RawData())
				b, err := blocks.NewBlockWithCid(buf[:n], all[i].Cid())
				if err == nil {
					err = s.add(t.Context(), b)
				}
				if err != nil {
					t.Error(err)
				}
				clear(buf[:n])
			}
		})
	}
	wg.Wait()
}

func TestWhatIsSentIsWhatWasAddedAndInFewCalls(t *testing.T) {
	k := &taken{sums: map[string][sha256.Size]byte{}}
	s := newSender(k.put, func(blocks.Block) {})
	defer s.close()
	var all []blocks.Block
	size := 0
	for seed, n := range []int{1 << 20, 100, 300 << 10, 5000, 1<<20 + 14} {
		all = append(all, blockstest.Random(uint64(seed), 12, n)...)
		size += 12 * n
	}
	addAll(t, s, append(all[:len(all):len(all)], all...))
	if err := s.flushed(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, b := range all {
		if k.sums[string(b.Cid().Hash())] != sha256.Sum256(b.RawData()) {
			t.Fatalf("block %d of %d bytes was not sent as it was added", i, len(b.RawData()))
		}
		if s.waits(string(b.Cid().Hash())) {
			t.Fatalf("block %d is said to wait", i)
		}
	}
	if most := 2*size/(sendBytes-1<<20) + 2; k.calls > most {
		t.Errorf("%d calls for twice %d bytes, want at most %d", k.calls, size, most)
	}
}

func TestWhatWaitsCanBeReadAndIsSentOnce(t *testing.T) {
	k := &taken{sums: map[string][sha256.Size]byte{}, stop: make(chan struct{})}
	s := newSender(k.put, func(blocks.Block) {})
	defer s.close()
	b := blockstest.Random(1, 1, 1000)[0]
	for range 3 {
		if err := s.add(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok := s.copyOf(string(b.Cid().Hash())); !ok || sha256.Sum256(got) != sha256.Sum256(b.RawData()) {
		t.Fatalf("read before it was sent: %v", ok)
	}
	if len(s.cur.blocks) != 1 {
		t.Errorf("%d copies are to be sent", len(s.cur.blocks))
	}
	close(k.stop)
	if err := s.flushed(t.Context()); err != nil || k.calls != 1 {
		t.Errorf("%d calls, %v", k.calls, err)
	}
}

func TestWhatFailedOnceIsMissingForGood(t *testing.T) {
	broken := errors.New("broken")
	k := &taken{sums: map[string][sha256.Size]byte{}, err: broken}
	s := newSender(k.put, func(blocks.Block) {})
	defer s.close()
	bs := blockstest.Random(1, 2, 1000)
	if err := s.add(t.Context(), bs[0]); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.flushed(t.Context()); !errors.Is(err, broken) {
			t.Fatalf("flushed: %v", err)
		}
	}
	if err := s.add(t.Context(), bs[1]); !errors.Is(err, broken) {
		t.Errorf("added after that: %v", err)
	}
}

func TestEachOfManyBlocksSaysWhyItIsNotGot(t *testing.T) {
	broken := errors.New("broken")
	x := &Session{sender: newSender((&taken{}).put, func(blocks.Block) {})}
	x.sender.fail(broken)
	bs := blockstest.Random(1, 3, 1000)
	n := 0
	for _, err := range x.GetMany(t.Context(), bs[0].Cid(), bs[1].Cid(), bs[2].Cid()) {
		if n++; !errors.Is(err, broken) {
			t.Errorf("block %d: %v", n, err)
		}
	}
	if n != len(bs) {
		t.Errorf("%d of %d are told of", n, len(bs))
	}
}

func TestWaitingForWhatStallsEndsWithTheCaller(t *testing.T) {
	k := &taken{sums: map[string][sha256.Size]byte{}, stop: make(chan struct{})}
	s := newSender(k.put, func(blocks.Block) {})
	if err := s.add(t.Context(), blockstest.Random(1, 1, 1000)...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	context.AfterFunc(t.Context(), cancel)
	done := make(chan error)
	go func() { done <- s.flushed(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("flushed: %v", err)
	}
	close(k.stop)
	if err := s.flushed(t.Context()); err != nil || len(k.sums) != 1 {
		t.Errorf("the next caller: %d sent, %v", len(k.sums), err)
	}
	s.close()
}

func TestTheEndGivesUpWhatStalls(t *testing.T) {
	k := &taken{sums: map[string][sha256.Size]byte{}, stop: make(chan struct{})}
	s := newSender(k.put, func(blocks.Block) {})
	if err := s.add(t.Context(), blockstest.Random(1, 20, 1<<20)...); err != nil {
		t.Fatal(err)
	}
	s.close()
	if len(k.sums) != 0 {
		t.Error("it was sent")
	}
}
