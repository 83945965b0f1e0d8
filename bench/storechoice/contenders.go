package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"github.com/multiformats/go-base32"

	"github.com/volary/volary/snapshot/store"
)

var openers = map[string]func(dir string) (contender, error){
	"pack":         openPack,
	"pebble":       func(dir string) (contender, error) { return openPebble(dir, false) },
	"pebble-nowal": func(dir string) (contender, error) { return openPebble(dir, true) },
	"flatfs":       openFlat,
	"plain":        openPlain,
}

var storeTitles = map[string]string{
	"pack":         "packs + index",
	"pebble":       "Pebble, separated values",
	"pebble-nowal": "same, no WAL, flushed",
	"flatfs":       "flatfs, synced",
	"plain":        "(one file, written and synced)",
}

func verify(b blocks.Block, data []byte) error {
	if sum := sha256.Sum256(data); string(sum[:]) != string(b.Cid().Hash()[2:]) {
		return fmt.Errorf("%s is damaged", b.Cid())
	}
	return nil
}

type packs struct{ s *store.Store }

func openPack(dir string) (contender, error) {
	s, err := store.Open(dir, store.Options{})
	return packs{s}, err
}

func (p packs) put(ctx context.Context, bs []blocks.Block) error { return p.s.Put(ctx, bs...) }
func (p packs) sync(ctx context.Context) error                   { return p.s.Sync(ctx) }
func (p packs) close() error                                     { return p.s.Close() }

func (p packs) get(ctx context.Context, b blocks.Block, buf []byte) ([]byte, error) {
	return p.s.GetInto(ctx, b.Cid(), buf)
}

func (p packs) collect(ctx context.Context, live, _ []blocks.Block) error {
	sw, err := p.s.BeginSweep(ctx)
	if err != nil {
		return err
	}
	defer sw.Close()
	for _, b := range live {
		if _, _, err := sw.Mark(ctx, b.Cid()); err != nil {
			return err
		}
	}
	if _, _, err := sw.Remove(ctx, false, func(context.Context) (bool, error) { return false, nil }); err != nil {
		return err
	}
	_, err = sw.Compact(ctx)
	return err
}

type pebbles struct {
	db    *pebble.DB
	noWAL bool
}

func openPebble(dir string, noWAL bool) (contender, error) {
	o := &pebble.Options{
		FormatMajorVersion:          pebble.FormatValueSeparation,
		DisableWAL:                  noWAL,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		Logger:                      quiet{},
	}
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 1024, MaxBlobReferenceDepth: 10, TargetGarbageRatio: 0.2}
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	db, err := pebble.Open(dir, o)
	return pebbles{db, noWAL}, err
}

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func (p pebbles) put(_ context.Context, bs []blocks.Block) error {
	w := p.db.NewBatch()
	defer w.Close()
	for _, b := range bs {
		if err := w.Set(b.Cid().Hash(), b.RawData(), nil); err != nil {
			return err
		}
	}
	return w.Commit(pebble.NoSync)
}

func (p pebbles) sync(context.Context) error {
	if p.noWAL {
		return p.db.Flush()
	}
	return p.db.LogData(nil, pebble.Sync)
}

func (p pebbles) get(_ context.Context, b blocks.Block, buf []byte) ([]byte, error) {
	v, c, err := p.db.Get(b.Cid().Hash())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	buf = append(buf[:0], v...)
	return buf, verify(b, buf)
}

func (p pebbles) collect(ctx context.Context, _, dead []blocks.Block) error {
	w := p.db.NewBatch()
	defer w.Close()
	for _, b := range dead {
		if err := w.Delete(b.Cid().Hash(), nil); err != nil {
			return err
		}
	}
	if err := w.Commit(pebble.NoSync); err != nil {
		return err
	}
	if err := p.db.Flush(); err != nil {
		return err
	}
	return p.db.Compact(ctx, []byte{0}, []byte{0xff}, true)
}

func (p pebbles) close() error { return p.db.Close() }

type flat struct{ ds *flatfs.Datastore }

func openFlat(dir string) (contender, error) {
	ds, err := flatfs.CreateOrOpen(filepath.Join(dir, "blocks"), flatfs.NextToLast(2), true)
	return flat{ds}, err
}

func flatKey(b blocks.Block) datastore.Key {
	return datastore.NewKey(base32.RawStdEncoding.EncodeToString(b.Cid().Hash()))
}

func (f flat) put(ctx context.Context, bs []blocks.Block) error {
	w, err := f.ds.Batch(ctx)
	if err != nil {
		return err
	}
	for _, b := range bs {
		if err := w.Put(ctx, flatKey(b), b.RawData()); err != nil {
			return err
		}
	}
	return w.Commit(ctx)
}

func (f flat) sync(ctx context.Context) error { return f.ds.Sync(ctx, datastore.NewKey("/")) }

func (f flat) get(ctx context.Context, b blocks.Block, _ []byte) ([]byte, error) {
	data, err := f.ds.Get(ctx, flatKey(b))
	if err != nil {
		return nil, err
	}
	return data, verify(b, data)
}

func (f flat) collect(ctx context.Context, _, dead []blocks.Block) error {
	for _, b := range dead {
		if err := f.ds.Delete(ctx, flatKey(b)); err != nil {
			return err
		}
	}
	return f.sync(ctx)
}

func (f flat) close() error { return f.ds.Close() }

// plain is no store: it shows what writing the bytes once costs on this machine.
type plain struct {
	f   *os.File
	mu  *sync.Mutex
	at  map[string]int64
	end *int64
}

// places lets a second opening know what the first wrote.
var places = make(map[string]int64)

func openPlain(dir string) (contender, error) {
	f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_RDWR|os.O_CREATE, 0o600)
	return plain{f, new(sync.Mutex), places, new(int64)}, err
}

func (p plain) put(_ context.Context, bs []blocks.Block) error {
	for _, b := range bs {
		p.mu.Lock()
		off := *p.end
		*p.end += int64(len(b.RawData()))
		p.at[b.Cid().KeyString()] = off
		p.mu.Unlock()
		if _, err := p.f.WriteAt(b.RawData(), off); err != nil {
			return err
		}
	}
	return nil
}

func (p plain) sync(context.Context) error { return p.f.Sync() }

func (p plain) get(_ context.Context, b blocks.Block, buf []byte) ([]byte, error) {
	buf = buf[:len(b.RawData())]
	if _, err := p.f.ReadAt(buf, p.at[b.Cid().KeyString()]); err != nil {
		return nil, err
	}
	return buf, verify(b, buf)
}

func (p plain) collect(context.Context, []blocks.Block, []blocks.Block) error { return nil }
func (p plain) close() error                                                  { return p.f.Close() }
