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
	slotBit  = 1 << (slotLen + placeLen)
	slotLen  = 37 // bits
	placeLen = 24
	maxPlace = 1<<placeLen - 1
	slotMask = 1<<slotLen - 1
)

// slots lead from the number of an entry without a row to its directory. A slot is a hash of the directory's own
// number, or if that is taken a hash of that, so that the same directory usually has the same slot in another
// mount. They are also written to a file, before the first number with a slot is told to the kernel: who goes on
// with the mount reads it.
type slots struct {
	ledger *ledger
	tag    uint64 // of its records in the ledger
	length uint   // bits of a slot

	mu  sync.Mutex
	dir map[uint64]uint64 // by slot
}

// openSlots reads what earlier servers of the mount wrote.
func openSlots(f *os.File) (*slots, error) {
	l, found, err := openLedger(f, 0)
	if err != nil {
		return nil, err
	}
	s := l.slots(0, slotLen)
	for _, r := range found {
		s.dir[r.slot] = r.dir
	}
	return s, nil
}

func (s *slots) bit() uint64  { return 1 << (s.length + placeLen) }
func (s *slots) mask() uint64 { return 1<<s.length - 1 }

// of returns the slot of a directory.
func (s *slots) of(dir uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := scatter(dir) & s.mask()
	for {
		old, taken := s.dir[slot]
		if taken && old == dir {
			return slot, nil
		}
		if !taken {
			break
		}
		slot = scatter(slot) & s.mask()
	}
	if err := s.ledger.add(slotRecord{tag: s.tag, slot: slot, dir: dir}); err != nil {
		return 0, err
	}
	s.dir[slot] = dir
	return slot, nil
}

var errNoSlot = errors.New("a number that was never given out")

// decode takes the number of an entry without a row apart: that of its directory, and its place in it.
func (s *slots) decode(id uint64) (dir uint64, place int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, ok := s.dir[id>>placeLen&s.mask()]
	if !ok {
		return 0, 0, errNoSlot
	}
	return dir, int(id & maxPlace), nil
}

// number is that of an entry at a place in the directory with a slot.
func (s *slots) number(slot uint64, place int) uint64 {
	return s.bit() | slot<<placeLen | uint64(place)
}

// scatter is the finalizer of SplitMix64.
func scatter(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// ledger is the file of all slots of a mount: records of a slot and a directory's number, after a head that is
// somebody else's. A record is free if there is no directory in it.
type ledger struct {
	file *os.File
	head int64 // bytes

	mu   sync.Mutex
	size int64 // records
	free []int64
	at   map[uint64][]int64 // the records of each tag that may be freed
}

// slotRecord is 16 bytes: the slot with the tag above it, the directory.
type slotRecord struct{ tag, slot, dir uint64 }

const (
	recordLen = 16
	tagShift  = 48
)

// openLedger reads all records.
func openLedger(f *os.File, head int64) (*ledger, []slotRecord, error) {
	l := &ledger{file: f, head: head, at: map[uint64][]int64{}}
	b, err := io.ReadAll(io.NewSectionReader(f, head, maxSlots*recordLen))
	if err != nil {
		return nil, nil, fmt.Errorf("read the numbers of directories: %w", err)
	}
	var all []slotRecord
	for ; len(b) >= recordLen; b = b[recordLen:] {
		n := binary.LittleEndian.Uint64(b)
		r := slotRecord{n >> tagShift, n & (1<<tagShift - 1), binary.LittleEndian.Uint64(b[8:])}
		if l.note(l.size, r); r.dir != 0 {
			all = append(all, r)
		}
		l.size++
	}
	return l, all, nil
}

// slots returns those of a tag, empty.
func (l *ledger) slots(tag uint64, length uint) *slots {
	return &slots{ledger: l, tag: tag, length: length, dir: map[uint64]uint64{}}
}

func (l *ledger) note(at int64, r slotRecord) {
	switch {
	case r.dir == 0:
		l.free = append(l.free, at)
	case r.tag != 0:
		l.at[r.tag] = append(l.at[r.tag], at)
	}
}

func (l *ledger) add(r slotRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.size
	if n := len(l.free); n > 0 {
		at = l.free[n-1]
	} else if at >= maxSlots {
		return fmt.Errorf("more than %d directories that no sidecar describes: %w", maxSlots, snapshot.ErrFormat)
	}
	if err := l.write(at, r); err != nil {
		return err
	}
	if at == l.size {
		l.size++
	} else {
		l.free = l.free[:len(l.free)-1]
	}
	l.note(at, r)
	return nil
}

func (l *ledger) write(at int64, r slotRecord) error {
	var rec [recordLen]byte
	binary.LittleEndian.PutUint64(rec[:], r.tag<<tagShift|r.slot)
	binary.LittleEndian.PutUint64(rec[8:], r.dir)
	if _, err := l.file.WriteAt(rec[:], l.head+at*recordLen); err != nil {
		return fmt.Errorf("write the number of a directory: %w", err)
	}
	return nil
}

// of returns the records of a tag.
func (l *ledger) of(tag uint64) (all []slotRecord, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.at[tag] {
		var rec [recordLen]byte
		if _, err := l.file.ReadAt(rec[:], l.head+at*recordLen); err != nil {
			return nil, fmt.Errorf("read the numbers of directories: %w", err)
		}
		n := binary.LittleEndian.Uint64(rec[:])
		all = append(all, slotRecord{tag, n & (1<<tagShift - 1), binary.LittleEndian.Uint64(rec[8:])})
	}
	return all, nil
}

// release frees the records of a tag.
func (l *ledger) release(tag uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := len(l.at[tag]); n > 0; n = len(l.at[tag]) {
		at := l.at[tag][n-1]
		if err := l.write(at, slotRecord{}); err != nil {
			return err
		}
		l.at[tag] = l.at[tag][:n-1]
		l.free = append(l.free, at)
	}
	delete(l.at, tag)
	return nil
}
