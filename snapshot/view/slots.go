package view

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/volary/volary/snapshot"
)

// The number of an entry without a row: a bit that no number of a row has, the slot of its directory, and its
// place in it.
const (
	slotBit  = 1 << 61
	placeLen = 24 // bits
	maxPlace = 1<<placeLen - 1
	slotMask = 1<<(61-placeLen) - 1
)

// slots lead from the number of an entry without a row to its directory. A slot is a hash of the directory's own
// number, or if that is taken a hash of that, so that the same directory usually has the same slot in another
// mount. They are also written to a file, before the first number with a slot is told to the kernel: who goes on
// with the mount reads it. The file holds pairs of a slot and a directory's number.
type slots struct {
	file *os.File

	mu  sync.Mutex
	dir map[uint64]uint64 // by slot
}

const slotRecord = 16

// openSlots reads what earlier servers of the mount wrote.
func openSlots(f *os.File) (*slots, error) {
	s := &slots{file: f, dir: map[uint64]uint64{}}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxSlots*slotRecord))
	if err != nil {
		return nil, fmt.Errorf("read the numbers of directories: %w", err)
	}
	for ; len(b) >= slotRecord; b = b[slotRecord:] {
		s.dir[binary.LittleEndian.Uint64(b)] = binary.LittleEndian.Uint64(b[8:])
	}
	return s, nil
}

// of returns the slot of a directory.
func (s *slots) of(dir uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := scatter(dir) & slotMask
	for {
		old, taken := s.dir[slot]
		if taken && old == dir {
			return slot, nil
		}
		if !taken {
			break
		}
		slot = scatter(slot) & slotMask
	}
	if len(s.dir) >= maxSlots {
		return 0, fmt.Errorf("more than %d directories that no sidecar describes: %w", maxSlots, snapshot.ErrFormat)
	}
	var rec [slotRecord]byte
	binary.LittleEndian.PutUint64(rec[:], slot)
	binary.LittleEndian.PutUint64(rec[8:], dir)
	if _, err := s.file.WriteAt(rec[:], int64(len(s.dir))*slotRecord); err != nil {
		return 0, fmt.Errorf("write the number of a directory: %w", err)
	}
	s.dir[slot] = dir
	return slot, nil
}

var errNoSlot = errors.New("a number that was never given out")

// decode takes the number of an entry without a row apart: that of its directory, and its place in it.
func (s *slots) decode(id uint64) (dir uint64, place int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, ok := s.dir[id>>placeLen&slotMask]
	if !ok {
		return 0, 0, errNoSlot
	}
	return dir, int(id & maxPlace), nil
}

// number is that of an entry at a place in the directory with a slot.
func number(slot uint64, place int) uint64 { return slotBit | slot<<placeLen | uint64(place) }

// scatter is the finalizer of SplitMix64.
func scatter(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
