package kept

import (
	"bytes"
	"context"
	"sync"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot/kubo"
)

const (
	// sendBytes and sendBlocks bound what is sent together: as much as one request takes.
	sendBytes  = 8 << 20
	sendBlocks = 4096
	// sendsAtOnce is how many such requests are under way; what is put beyond that waits.
	sendsAtOnce = kubo.DefaultInFlight
	// pieceBytes is the memory in which blocks wait, that much at a time. smallPiece is the first, for a session that
	// has little to send; blocks of largeBlock are copied while others may put.
	pieceBytes = 1 << 20
	smallPiece = 64 << 10
	largeBlock = 256 << 10
)

// A sender gathers blocks and sends them many at a time, since each request takes the daemon as long as many blocks do,
// while further ones are gathered. What failed once is missing for good. It must be made by newSender.
type sender struct {
	put    func(bs ...blocks.Block) error
	sent   func(blocks.Block) // is told of each
	cancel context.CancelFunc // of put
	slots  chan struct{}      // one for each that is being sent
	flush  chan struct{}      // held by whoever takes all slots

	mu     sync.Mutex
	ready  []*batch // to be sent next
	cur    *batch
	free   [][]byte                // pieces
	unsent map[string]blocks.Block // by multihash
	failed error
}

// batch is copies of blocks, and the memory they are in.
type batch struct {
	blocks []blocks.Block
	size   int
	whole  [][]byte // pieces of one block each
	filled [][]byte // others; the last one has room
}

func newSender(put func(ctx context.Context, bs ...blocks.Block) error, sent func(blocks.Block)) *sender {
	// What is sent goes on when the call of add that began it has returned.
	ctx, cancel := context.WithCancel(context.Background())
	return &sender{
		put:    func(bs ...blocks.Block) error { return put(ctx, bs...) },
		sent:   sent,
		cancel: cancel, slots: make(chan struct{}, sendsAtOnce), flush: make(chan struct{}, 1),
		cur: new(batch), unsent: map[string]blocks.Block{},
	}
}

// add takes copies of blocks. It waits while enough is being sent.
func (s *sender) add(ctx context.Context, bs ...blocks.Block) error {
	for _, b := range bs {
		full, err := s.gather(b)
		if err == nil && full {
			err = s.begin(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gather puts a copy of a block with those that wait, unless it waits already, and reports whether they were enough
// without it.
func (s *sender) gather(b blocks.Block) (full bool, err error) {
	data, hash := b.RawData(), string(b.Cid().Hash())
	var own []byte
	if len(data) >= largeBlock && len(data) <= pieceBytes {
		own = append(s.piece(), data...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil || s.unsent[hash] != nil {
		s.recycle(own)
		return false, s.failed
	}
	if len(s.cur.blocks) == sendBlocks || s.cur.size+len(data) > sendBytes {
		full = s.next()
	}
	if own != nil {
		s.cur.whole = append(s.cur.whole, own)
	} else {
		own = s.cur.keep(data)
	}
	blk, err := blocks.NewBlockWithCid(own, b.Cid())
	if err != nil {
		s.failed = err
		return full, err
	}
	s.unsent[hash] = blk
	s.cur.blocks = append(s.cur.blocks, blk)
	s.cur.size += len(data)
	return full, nil
}

// piece is memory of pieceBytes with nothing in it, if possible such as was used before: new memory costs more than
// the copy.
func (s *sender) piece() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.free) - 1; last >= 0 {
		p := s.free[last]
		s.free = s.free[:last]
		return p
	}
	return make([]byte, 0, pieceBytes)
}

// recycle is called with mu held.
func (s *sender) recycle(pieces ...[]byte) {
	for _, p := range pieces {
		if cap(p) == pieceBytes && len(s.free) < sendsAtOnce*sendBytes/pieceBytes {
			s.free = append(s.free, p[:0])
		}
	}
}

// keep copies data into the batch's memory.
func (b *batch) keep(data []byte) []byte {
	last := len(b.filled) - 1
	if last < 0 || len(data) > cap(b.filled[last])-len(b.filled[last]) {
		size := pieceBytes
		if last < 0 {
			size = smallPiece
		}
		b.filled = append(b.filled, make([]byte, 0, max(size, len(data))))
		last++
	}
	n := len(b.filled[last])
	b.filled[last] = append(b.filled[last], data...)
	return b.filled[last][n:len(b.filled[last]):len(b.filled[last])]
}

// next is called with mu held. It has what was gathered sent next, and reports whether that is anything.
func (s *sender) next() bool {
	if len(s.cur.blocks) == 0 {
		return false
	}
	s.ready = append(s.ready, s.cur)
	s.cur = new(batch)
	return true
}

// begin begins to send a batch that is ready, if there is one. If ctx ends before, it stays ready.
func (s *sender) begin(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) == 0 {
		<-s.slots
		return nil
	}
	b := s.ready[0]
	s.ready = s.ready[1:]
	go func() {
		defer func() { <-s.slots }()
		err := s.put(b.blocks...)
		if err != nil {
			s.fail(err)
			return
		}
		for _, blk := range b.blocks {
			s.sent(blk)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, blk := range b.blocks {
			delete(s.unsent, string(blk.Cid().Hash()))
		}
		s.recycle(b.whole...)
		s.recycle(b.filled...)
	}()
	return nil
}

func (s *sender) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

// flushed waits until all that was added is sent.
func (s *sender) flushed(ctx context.Context) error {
	for more := true; more; {
		s.mu.Lock()
		s.next()
		more = len(s.ready) > 0
		s.mu.Unlock()
		if more {
			if err := s.begin(ctx); err != nil {
				return err
			}
		}
	}
	if err := s.idle(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// idle waits until nothing is being sent.
func (s *sender) idle(ctx context.Context) error {
	select {
	case s.flush <- struct{}{}:
		defer func() { <-s.flush }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for range sendsAtOnce {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// waits reports whether a block was added and not sent yet.
func (s *sender) waits(hash string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsent[hash] != nil
}

// copyOf is a copy of the bytes of a block that waits, false if it does not.
func (s *sender) copyOf(hash string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.unsent[hash]
	if b == nil {
		return nil, false
	}
	return bytes.Clone(b.RawData()), true
}

// close gives up what is not sent, and waits for the end of what is being sent.
func (s *sender) close() {
	s.cancel()
	_ = s.idle(context.Background())
}
