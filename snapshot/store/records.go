package store

import (
	"context"
	"fmt"
)

// Record returns the value of a record, nil if there is none.
func (s *Store) Record(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.index.value(recordKey(key))
}

// Records calls fn for every record whose key begins with prefix, in the keys' order, as they were at one
// instant. An error of fn ends it and is returned.
func (s *Store) Records(ctx context.Context, prefix string, fn func(key string, value []byte) error) error {
	return s.index.scan(recordKey(prefix), func(key, value []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return fn(prefix+string(key), append(make([]byte, 0, len(value)), value...))
	})
}

// SetRecords sets records, or deletes those whose value is nil: all or none, durable on return. Like all
// writing it is refused with ENOSPC while the disk is full, except when it only deletes.
func (s *Store) SetRecords(ctx context.Context, recs map[string][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.writable(); err != nil {
		return err
	}
	b := s.index.db.NewBatch()
	adds := false
	for key, value := range recs {
		if value == nil {
			b.Delete(recordKey(key), nil)
			continue
		}
		adds = true
		b.Set(recordKey(key), value, nil)
	}
	if adds {
		if err := s.ballast.restore(); err != nil {
			return fmt.Errorf("set records: %w", err)
		}
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	if err := s.index.commit(b, true); err != nil {
		return s.fail(err)
	}
	s.step(StepRecorded)
	return nil
}

func recordKey(key string) []byte { return append([]byte{keyRecord}, key...) }
