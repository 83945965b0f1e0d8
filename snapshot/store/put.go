package store

import (
	"context"
	"encoding/binary"
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

const (
	// maxRun bounds the blocks of one write: each takes up to two of the 1024 buffers pwritev accepts.
	maxRun = 500
	// copyBelow is the size in bytes below which a block is copied next to its header: cheaper than two
	// more buffers in the vector.
	copyBelow = 16 << 10
	// maxPending is the number of blocks not indexed yet at which Put waits for a flush.
	maxPending = 1 << 18
)

func (s *Store) put(ctx context.Context, sess *Session, bs []blocks.Block) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if err := s.writable(); err != nil {
		return err
	}
	for len(bs) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(len(bs), maxRun)
		if err := s.putRun(sess, bs[:n]); err != nil {
			return fmt.Errorf("put blocks: %w", err)
		}
		bs = bs[n:]
		if s.crowded() {
			if err := s.flusher.sync(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) crowded() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.pending) > maxPending
}

// A run is the part of a Put that is written at once.
type run struct {
	names []name
	cids  []cid.Cid // that the blocks are framed under
	fresh []int     // positions of the blocks that are in no index, or lost
	waits []*reservation
}

func (s *Store) putRun(sess *Session, bs []blocks.Block) error {
	r := run{names: make([]name, len(bs)), cids: make([]cid.Cid, len(bs))}
	for i, b := range bs {
		n, err := nameOf(b.Cid())
		if err != nil {
			return err
		}
		if size := len(b.RawData()); size > snapshot.MaxBlockSize {
			return fmt.Errorf("block %s of %d bytes, more than %d: %w", b.Cid(), size, snapshot.MaxBlockSize, snapshot.ErrFormat)
		}
		if !n.identity && (!n.verifiable() || len(n.hash)+2*binary.MaxVarintLen64 > maxCIDSize) {
			return fmt.Errorf("block %s could never be read back: hash function %#x: %w", b.Cid(), n.code, snapshot.ErrFormat)
		}
		r.names[i], r.cids[i] = n, n.cid()
	}
	res, err := s.claim(sess, bs, &r)
	if err != nil {
		return err
	}
	if res != nil {
		err = s.finish(res, s.write(res, bs, &r))
	}
	for _, w := range r.waits {
		<-w.done
		if err == nil {
			err = w.err
		}
	}
	return err
}

// claim sorts out which blocks are new and reserves space for those; nil if none is.
func (s *Store) claim(sess *Session, bs []blocks.Block, r *run) (*reservation, error) {
	for {
		s.mu.RLock()
		flushes := s.flushes
		s.mu.RUnlock()
		r.fresh = r.fresh[:0]
		for i, n := range r.names {
			if n.identity {
				continue
			}
			e, ok, err := s.index.get(n.hash)
			if err != nil {
				return nil, err
			}
			if !ok || s.lost(e) {
				r.fresh = append(r.fresh, i)
			} else if sess != nil {
				sess.touch(n.hash, e)
			}
		}
		if len(r.fresh) == 0 {
			return nil, nil
		}
		if err := s.ballast.restore(); err != nil {
			return nil, err
		}
		res, again, err := s.claimFresh(sess, bs, r, flushes)
		if !again || err != nil {
			return res, err
		}
	}
}

// claimFresh reserves space for the fresh blocks that nobody else is writing. It asks for another look into
// the index if a flush went by, which may have moved any of them there.
func (s *Store) claimFresh(sess *Session, bs []blocks.Block, r *run, flushes uint64) (_ *reservation, again bool, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flushes != flushes {
		return nil, true, nil
	}
	var pends []*pend
	kept := r.fresh[:0]
	for _, i := range r.fresh {
		n := r.names[i]
		if p := s.pending[n.hash]; p != nil {
			// A block that comes twice in one call has no reservation yet, and a visible one has none any more.
			if p.res != nil && (len(r.waits) == 0 || r.waits[len(r.waits)-1] != p.res) {
				r.waits = append(r.waits, p.res)
			}
			if sess != nil {
				sess.touch(n.hash, p.entry)
			}
			continue
		}
		p := &pend{hash: n.hash, entry: entry{size: uint32(len(bs[i].RawData())), codec: n.codec}}
		s.pending[n.hash] = p
		pends = append(pends, p)
		kept = append(kept, i)
	}
	r.fresh = kept
	if len(pends) == 0 {
		return nil, false, nil
	}
	var total int64
	for k, i := range r.fresh {
		total += int64(frameOverhead(r.cids[i])) + int64(pends[k].entry.size)
	}
	res, err := s.reserve(total)
	if err != nil {
		for _, p := range pends {
			delete(s.pending, p.hash)
		}
		return nil, false, err
	}
	off := res.start
	for k, i := range r.fresh {
		p := pends[k]
		off += int64(frameOverhead(r.cids[i]))
		p.entry.pack, p.entry.off, p.res = res.pack.id, off, res
		off += int64(p.entry.size)
	}
	res.pends = pends
	return res, false, nil
}

// write writes the frames of a reservation: small blocks beside their headers, large ones from where they are.
func (s *Store) write(res *reservation, bs []blocks.Block, r *run) error {
	total := int(res.end - res.start)
	for _, p := range res.pends {
		if p.entry.size >= copyBelow {
			total -= int(p.entry.size)
		}
	}
	buf := s.takeBuffer(total)
	defer func() { s.buffers.Put(&buf) }()
	var vec [][]byte
	from := 0
	for _, i := range r.fresh {
		data := bs[i].RawData()
		buf = appendHeader(buf, r.cids[i], len(data))
		if len(data) < copyBelow {
			buf = append(buf, data...)
			continue
		}
		vec = append(vec, buf[from:len(buf):len(buf)], data)
		from = len(buf)
	}
	if from < len(buf) {
		vec = append(vec, buf[from:])
	}
	err := writeVec(res.pack.file, vec, res.start)
	s.step(StepPackWritten)
	return err
}

func (s *Store) takeBuffer(n int) []byte {
	if b, ok := s.buffers.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:0]
	}
	return make([]byte, 0, max(n, 256<<10))
}
