package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Keys of the index are one byte of kind and the rest.
const (
	keyBlock  = 'b' // multihash → entry
	keyPack   = 'p' // number, big endian → packState
	keyRecord = 'r' // key of another package → its value
	keyStat   = 's' // key of a stat record → day of its last use, value
	keyMeta   = 'm' // see metaEpoch
)

// metaEpoch is the key of the number that complete marks must carry to count. Raising it voids them all.
const metaEpoch = string(keyMeta) + "epoch"

// An entry says where a block's bytes are and what is known of the DAG below it.
type entry struct {
	pack  uint32
	off   int64 // of the data in the pack
	size  uint32
	codec uint64 // of the CID the block was first put under
	// complete, if not 0, is 1 + the codec by which the block and everything below it was stored at epoch.
	complete uint64
	epoch    uint64
}

func (e entry) encode() []byte {
	b := make([]byte, 0, 32)
	b = binary.AppendUvarint(b, uint64(e.pack))
	b = binary.AppendUvarint(b, uint64(e.off))
	b = binary.AppendUvarint(b, uint64(e.size))
	b = binary.AppendUvarint(b, e.codec)
	b = binary.AppendUvarint(b, e.complete)
	if e.complete != 0 {
		b = binary.AppendUvarint(b, e.epoch)
	}
	return b
}

func decodeEntry(b []byte) (entry, error) {
	d := decoder{b: b}
	e := entry{pack: uint32(d.uvarint()), off: int64(d.uvarint()), size: uint32(d.uvarint()), codec: d.uvarint(), complete: d.uvarint()}
	if e.complete != 0 {
		e.epoch = d.uvarint()
	}
	if d.bad || len(d.b) != 0 {
		return entry{}, fmt.Errorf("index entry %x: %w", b, ErrCorrupt)
	}
	return e, nil
}

// A packState says how far a pack is indexed: every frame below is in the index or of no use any more.
type packState struct {
	indexed int64
	doomed  bool  // the file holds nothing that is needed and is to be deleted
	short   bool  // the file was found shorter than indexed, or missing
	left    int64 // of a short one: its size then
}

// What the second number of an encoded packState says.
const (
	packWhole = iota
	packDoomed
	packShort // a third number, left, follows
)

func (p packState) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(p.indexed))
	switch {
	case p.doomed:
		return binary.AppendUvarint(b, packDoomed)
	case p.short:
		return binary.AppendUvarint(binary.AppendUvarint(b, packShort), uint64(p.left))
	default:
		return binary.AppendUvarint(b, packWhole)
	}
}

func decodePackState(b []byte) (packState, error) {
	d := decoder{b: b}
	p := packState{indexed: int64(d.uvarint())}
	switch d.uvarint() {
	case packWhole:
	case packDoomed:
		p.doomed = true
	case packShort:
		p.short, p.left = true, int64(d.uvarint())
	default:
		d.bad = true
	}
	if d.bad || len(d.b) != 0 {
		return packState{}, fmt.Errorf("index: pack state %x: %w", b, ErrCorrupt)
	}
	return p, nil
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func blockKey(hash string) []byte { return append(append(make([]byte, 0, 64), keyBlock), hash...) }

func packKey(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{keyPack}, id) }

// index is the Pebble database.
type index struct {
	db   *pebble.DB
	halt *halt

	// mu is held by whoever reads entries in order to change them.
	mu      sync.Mutex
	written int // bytes committed since the database was opened

	life   sync.RWMutex
	closed bool
	users  sync.WaitGroup
}

// use keeps the database open until users.Done is called: Pebble panics when asked after its end.
func (x *index) use() error {
	x.life.RLock()
	defer x.life.RUnlock()
	if x.closed {
		return ErrClosed
	}
	x.users.Add(1)
	return nil
}

// flushFrom is the bytes of log from which closing writes them into a table, for a fast start the next time.
const flushFrom = 512 << 10

func (x *index) close() error {
	x.life.Lock()
	x.closed = true
	x.life.Unlock()
	x.users.Wait()
	return x.halt.guard(func() error {
		var err error
		if x.written > flushFrom {
			if err = x.db.Flush(); err != nil {
				err = fmt.Errorf("flush index: %w", err)
			}
		}
		return errors.Join(err, x.db.Close())
	})
}

// indexFS keeps Pebble from locking: the store's own lock covers the index, and works on a read-only disk.
type indexFS struct{ vfs.FS }

func (indexFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// openIndex opens the database in dir, which must exist already unless create is set.
func openIndex(dir string, create, readOnly bool, fs vfs.FS, log *slog.Logger) (*index, error) {
	halt := newHalt(log)
	o := &pebble.Options{
		FS:                          indexFS{fs},
		FormatMajorVersion:          pebble.FormatColumnarBlocks,
		ErrorIfNotExists:            !create,
		ReadOnly:                    readOnly,
		CacheSize:                   64 << 20,
		MemTableSize:                4 << 20,
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                256,
		L0CompactionThreshold:       4,
		LBaseMaxBytes:               16 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		DisableTableStats:           true,
		Logger:                      halt,
		// Left out, it stops the database, though the reader is told of the damage as well.
		EventListener: &pebble.EventListener{DataCorruption: func(i pebble.DataCorruptionInfo) {
			log.Error("index", logError, i.String())
		}},
	}
	o.Experimental.FileCacheShards = 1
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	x := &index{halt: halt}
	if err := halt.guard(func() (err error) {
		x.db, err = pebble.Open(dir, o)
		return err
	}); err != nil {
		return nil, err
	}
	return x, nil
}

func (x *index) get(hash string) (entry, bool, error) {
	v, err := x.value(blockKey(hash))
	if err != nil || v == nil {
		return entry{}, false, err
	}
	e, err := decodeEntry(v)
	return e, err == nil, err
}

// value returns a copy of what a key holds, nil if nothing.
func (x *index) value(key []byte) ([]byte, error) {
	if err := x.use(); err != nil {
		return nil, err
	}
	defer x.users.Done()
	v, closer, err := x.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	defer closer.Close()
	return append(make([]byte, 0, len(v)), v...), nil
}

// commit applies a batch, durably if asked. After an error the database must be opened again. The batch is never
// closed, only forgotten: Pebble may still hold it when it stops. The caller holds mu.
func (x *index) commit(b *pebble.Batch, durable bool) error {
	if err := x.use(); err != nil {
		return err
	}
	defer x.users.Done()
	x.written += b.Len()
	o := pebble.NoSync
	if durable {
		o = pebble.Sync
	}
	if err := x.halt.guard(func() error { return b.Commit(o) }); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}

// scan calls fn for every key that begins with prefix, in order; key lacks the prefix, and both are valid
// during the call only.
func (x *index) scan(prefix []byte, fn func(key, value []byte) error) error {
	if err := x.use(); err != nil {
		return err
	}
	defer x.users.Done()
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := fn(it.Key()[len(prefix):], it.Value()); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	return nil
}

// after returns the smallest key greater than all that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func (x *index) epoch() (uint64, error) {
	v, err := x.value([]byte(metaEpoch))
	if err != nil || v == nil {
		return 0, err
	}
	d := decoder{b: v}
	if n := d.uvarint(); !d.bad {
		return n, nil
	}
	return 0, fmt.Errorf("index: epoch %x: %w", v, ErrCorrupt)
}
