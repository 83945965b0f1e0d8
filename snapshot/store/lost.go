package store

import "encoding/binary"

// lossHint says what can be done about a lost pack.
const lossHint = "`volary verify REF` tells what of a snapshot is lost; snapshotting or importing the same data again restores it, " +
	"`volary verify --repair REF` gives it up; after either, `volary gc` forgets the file"

// lost tells whether what the index names cannot be there. Such a block counts as absent for all who would put
// it, and is damaged for who would read it.
func (s *Store) lost(e entry) bool {
	if len(s.short) == 0 {
		return false
	}
	st, short := s.short[e.pack]
	return short && e.off+int64(e.size) > st.left
}

// noteLosses finds the packs that are missing or shorter than the index knows. A loss that was not known voids
// the complete marks; one that is, it leaves at that, and a file that was put back ends it.
func (s *Store) noteLosses(files map[uint32]int64, states map[uint32]packState) error {
	changed := make(map[uint32]packState)
	for id, st := range states {
		if st.doomed {
			continue
		}
		size, there := files[id]
		now := packState{indexed: st.indexed}
		if size < st.indexed {
			now.short, now.left = true, size
			s.short[id] = now
			what := "a pack file is cut short"
			if !there {
				what = "a pack file is missing"
			}
			s.log.Warn(what, logFile, s.packPath(id), logLost, st.indexed-size, logHint, lossHint)
		}
		if now != st {
			changed[id] = now
		}
	}
	if s.readOnly || len(changed) == 0 {
		s.unnoted = len(changed) > 0
		return nil
	}
	epoch, err := s.index.epoch()
	if err != nil {
		return err
	}
	b := s.index.db.NewBatch()
	for id, st := range changed {
		b.Set(packKey(id), st.encode(), nil)
	}
	b.Set([]byte(metaEpoch), binary.AppendUvarint(nil, epoch+1), nil)
	if err := s.index.commit(b, true); err != nil {
		return err
	}
	s.step(StepLossNoted)
	return nil
}
