package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
)

// StatLifetime is how long a stat record is kept after its last use. Only a sweep removes any.
const StatLifetime = 90 * 24 * time.Hour

// A savedStat is a StatRecord that waits for the next flush.
type savedStat struct {
	value []byte
	roots []vouched
}

// A vouched root counts as complete in no later epoch than the one its session began in.
type vouched struct {
	root  cid.Cid
	epoch uint64
}

// A StatRecord is what a writer wants to know again the next time, such as the files of one directory and
// their CIDs. Roots are DAGs the record relies on: whoever saves it vouches that each and everything below it
// has been put, found, or adopted through the session.
type StatRecord struct {
	Key   []byte
	Value []byte
	Roots []cid.Cid
}

// LoadStat returns the value saved under a key, nil if there is none.
func (x *Session) LoadStat(ctx context.Context, key []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := x.s
	s.mu.RLock()
	r, ok := s.batch.stats[string(key)]
	s.mu.RUnlock()
	if ok {
		return r.value, nil
	}
	v, err := s.index.value(statKey(string(key)))
	if err != nil || v == nil {
		return nil, err
	}
	day, value, err := decodeStat(v)
	if err != nil {
		return nil, err
	}
	if day != today() && !s.readOnly {
		// Once a day a record that is used is written again with the new day.
		s.addStats([]StatRecord{{Key: key, Value: value}}, 0)
	}
	return value, nil
}

// SaveStat saves records and marks their roots complete, for Adopt to answer. Both become durable with the
// next Sync, never before the blocks put until now. The roots are protected with all that is below them. A
// mark does not count if a block was dropped, or found to be missing, since the session began.
func (x *Session) SaveStat(ctx context.Context, recs []StatRecord) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	x.s.gate.RLock()
	defer x.s.gate.RUnlock()
	if err := x.s.writable(); err != nil {
		return err
	}
	if err := x.open(); err != nil {
		return err
	}
	if err := x.s.ballast.restore(); err != nil {
		return fmt.Errorf("save stat records: %w", err)
	}
	for _, r := range recs {
		for _, c := range r.Roots {
			if _, err := nameOf(c); err != nil {
				return err
			}
			x.keep(c)
		}
	}
	x.s.addStats(recs, x.epoch)
	return nil
}

func (s *Store) addStats(recs []StatRecord, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.batch.stats == nil {
		s.batch.stats = make(map[string]savedStat)
	}
	for _, r := range recs {
		key := string(r.Key)
		st := s.batch.stats[key]
		st.value = append(make([]byte, 0, len(r.Value)), r.Value...)
		for _, c := range r.Roots {
			st.roots = append(st.roots, vouched{c, epoch})
		}
		s.batch.stats[key] = st
		s.batch.bytes += int64(len(r.Value))
	}
}

func statKey(key string) []byte { return append([]byte{keyStat}, key...) }

// today counts days.
func today() uint64 { return uint64(time.Now().Unix() / (24 * 60 * 60)) }

func encodeStat(day uint64, value []byte) []byte {
	return append(binary.AppendUvarint(make([]byte, 0, 4+len(value)), day), value...)
}

func decodeStat(b []byte) (day uint64, value []byte, _ error) {
	d := decoder{b: b}
	day = d.uvarint()
	if d.bad {
		return 0, nil, fmt.Errorf("stat record: %w", ErrCorrupt)
	}
	return day, d.b, nil
}
