package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/durable"
)

// listPacks returns the sizes of the pack files by number.
func (s *Store) listPacks() (map[uint32]int64, error) {
	files, err := os.ReadDir(filepath.Join(s.dir, packsDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("list packs: %w", readOnlyError(err))
	}
	packs := make(map[uint32]int64, len(files))
	for _, f := range files {
		id, err := strconv.ParseUint(strings.TrimSuffix(f.Name(), packExt), 10, 32)
		if err != nil || packName(uint32(id)) != f.Name() {
			s.log.Warn("strange file in store", logFile, f.Name())
			continue
		}
		fi, err := f.Info()
		if err != nil {
			return nil, err
		}
		packs[uint32(id)] = fi.Size()
	}
	return packs, nil
}

func (x *index) packStates() (map[uint32]packState, error) {
	states := make(map[uint32]packState)
	err := x.scan([]byte{keyPack}, func(key, value []byte) error {
		if len(key) != 4 {
			return fmt.Errorf("index: pack number %x: %w", key, ErrCorrupt)
		}
		p, err := decodePackState(value)
		states[binary.BigEndian.Uint32(key)] = p
		return err
	})
	return states, err
}

// recoverPacks makes packs and index agree: packs given up are deleted, what is lost of others is noted, blocks
// above what the index covers are verified and indexed, torn tails cut off.
func (s *Store) recoverPacks() error {
	files, err := s.listPacks()
	if err != nil {
		return err
	}
	states, err := s.index.packStates()
	if err != nil {
		return err
	}
	for id, st := range states {
		s.nextPack = max(s.nextPack, id+1)
		if _, ok := files[id]; st.doomed {
			delete(files, id)
			if err := s.removeDoomed(id, ok); err != nil {
				return err
			}
		}
	}
	if err := s.noteLosses(files, states); err != nil {
		return fmt.Errorf("note lost packs: %w", err)
	}
	return s.recoverTails(files, states)
}

// recoverTails reads what the packs have above the index, and resumes the newest.
func (s *Store) recoverTails(files map[uint32]int64, states map[uint32]packState) error {
	ids := make([]uint32, 0, len(files))
	for id := range files {
		ids = append(ids, id)
		s.nextPack = max(s.nextPack, id+1)
	}
	slices.Sort(ids)
	for _, id := range ids {
		good := states[id].indexed
		if files[id] > good {
			var err error
			if good, err = s.recoverTail(id, states[id].indexed, files[id]); err != nil {
				return fmt.Errorf("recover %s: %w", s.packPath(id), err)
			}
		}
		// What is written at the end of a short pack would be where the index knows other blocks.
		_, short := s.short[id]
		if !s.readOnly && !short && id == ids[len(ids)-1] && good < s.packSize {
			_, known := states[id]
			s.batch.created = !known // its name may not be on the disk yet
			return s.resume(id, good)
		}
	}
	return nil
}

// resume makes the newest pack the one that blocks are appended to.
func (s *Store) resume(id uint32, good int64) error {
	f, err := os.OpenFile(s.packPath(id), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return readOnlyError(err)
	}
	s.active = &pack{id: id, file: f, tail: good, good: good, started: good}
	s.packs[id] = s.active
	return nil
}

func (s *Store) removeDoomed(id uint32, exists bool) error {
	if s.readOnly {
		return nil
	}
	if exists {
		if err := os.Remove(s.packPath(id)); err != nil {
			return readOnlyError(err)
		}
	}
	// Without its record, a pack that a power cut brings back would be taken for one to be recovered.
	if err := durable.SyncDir(filepath.Join(s.dir, packsDir)); err != nil {
		return err
	}
	b := s.index.db.NewBatch()
	b.Delete(packKey(id), nil)
	return s.index.commit(b, false)
}

// recoverTail indexes the sound frames of a pack from an offset on and returns where they end. A frame whose
// block is indexed elsewhere is a copy that was never put to use.
func (s *Store) recoverTail(id uint32, from, size int64) (int64, error) {
	f, err := os.Open(s.packPath(id))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	found, good, err := s.scanTail(id, f, from, size)
	if err != nil {
		return 0, err
	}
	s.log.Info("recovered blocks that were not indexed", logPack, id, logBlocks, len(found), logTorn, size-good)
	if s.readOnly {
		for _, p := range found {
			s.pending[p.hash] = p
		}
		return good, nil
	}
	if from == 0 && len(found) == 0 {
		return 0, readOnlyError(os.Remove(s.packPath(id)))
	}
	w, err := os.OpenFile(s.packPath(id), os.O_RDWR, 0)
	if err != nil {
		return 0, readOnlyError(err)
	}
	defer w.Close()
	if err := w.Truncate(good); err != nil {
		return 0, readOnlyError(err)
	}
	if err := withFd(w, unix.Fdatasync); err != nil {
		return 0, err
	}
	if err := durable.SyncDir(filepath.Join(s.dir, packsDir)); err != nil {
		return 0, err
	}
	b := s.index.db.NewBatch()
	for _, p := range found {
		b.Set(blockKey(p.hash), p.entry.encode(), nil)
	}
	b.Set(packKey(id), packState{indexed: good}.encode(), nil)
	return good, s.index.commit(b, true)
}

func (s *Store) scanTail(id uint32, f *os.File, from, size int64) (found []*pend, good int64, _ error) {
	r := newFrameReader(f, from, size)
	seen := make(map[string]bool)
	for {
		good = r.off
		fr, err := r.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errTorn) {
			return found, good, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if fr.name.verify(fr.data) != nil {
			return found, good, nil
		}
		e, ok, err := s.index.get(fr.name.hash)
		if err != nil {
			return nil, 0, err
		}
		if ok && !s.lost(e) || seen[fr.name.hash] {
			continue
		}
		seen[fr.name.hash] = true
		found = append(found, &pend{hash: fr.name.hash, visible: true,
			entry: entry{pack: id, off: fr.off, size: uint32(len(fr.data)), codec: fr.name.codec}})
	}
}
