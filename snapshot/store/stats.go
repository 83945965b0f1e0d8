package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
)

// Stats says what a store holds.
type Stats struct {
	Blocks int64 // that are indexed, lost ones included
	Bytes  int64 // of the blocks
	Packs  int
	Disk   int64 // of the pack files
	Free   int64 // available on the filesystem, in bytes
}

// Stats counts. It reads the whole index.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var st Stats
	if err := s.settle(ctx); err != nil {
		return st, err
	}
	err := s.entries(ctx, func(_ string, e entry) error {
		st.Blocks++
		st.Bytes += int64(e.size)
		return nil
	})
	if err != nil {
		return st, err
	}
	packs, err := s.listPacks()
	if err != nil {
		return st, err
	}
	st.Packs = len(packs)
	for _, size := range packs {
		st.Disk += size
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return st, fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	st.Free = int64(fs.Bavail) * fs.Bsize
	return st, nil
}

// All lists the CIDs of all blocks put before the call, each with the codec it was first put under, as CIDv1.
func (s *Store) All(ctx context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		errStop := fmt.Errorf("stopped")
		err := s.settle(ctx)
		if err == nil {
			err = s.entries(ctx, func(hash string, e entry) error {
				if !yield(cid.NewCidV1(e.codec, mh.Multihash(hash)), nil) {
					return errStop
				}
				return nil
			})
		}
		if err != nil && err != errStop {
			yield(cid.Undef, err)
		}
	}
}

// Drop takes a block whose bytes are damaged out of the index, so that it can be put again. What was said to be
// complete no longer is. A block that is sound stays; one whose bytes cannot be read for another reason is an
// error.
func (s *Store) Drop(ctx context.Context, c cid.Cid) error {
	n, err := nameOf(c)
	if err != nil {
		return err
	}
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.Sync(ctx); err != nil {
		return err
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	// Somebody else may have dropped it and put it again since it was found damaged.
	_, err = s.get(ctx, c, nil, s.find)
	if err == nil || !errors.Is(err, snapshot.ErrDamaged) && !errors.Is(err, snapshot.ErrNotFound) {
		return err
	}
	b := s.index.db.NewBatch()
	b.Delete(blockKey(n.hash), nil)
	epoch, err := s.index.epoch()
	if err != nil {
		return err
	}
	b.Set([]byte(metaEpoch), binary.AppendUvarint(nil, epoch+1), nil)
	if err := s.index.commit(b, true); err != nil {
		return s.fail(err)
	}
	s.step(StepDropped)
	return nil
}

// settle brings what is pending into the index, where entries finds it.
func (s *Store) settle(ctx context.Context) error {
	if s.readOnly {
		return nil
	}
	return s.Sync(ctx)
}

// entries calls fn for every entry, in the order of the multihashes.
func (s *Store) entries(ctx context.Context, fn func(hash string, e entry) error) error {
	if s.readOnly {
		for hash, p := range s.pending {
			if err := fn(hash, p.entry); err != nil {
				return err
			}
		}
	}
	n := 0
	return s.index.scan([]byte{keyBlock}, func(key, value []byte) error {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if s.readOnly && s.pending[string(key)] != nil {
			return nil // lost, and put again
		}
		e, err := decodeEntry(value)
		if err != nil {
			return err
		}
		return fn(string(key), e)
	})
}
