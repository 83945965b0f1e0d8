//go:build real

package freezer_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/freezer"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/overlay"
)

// counters are files that hold one number each, counted up in this order: by writes, the last two by stores to
// mapped memory.
var counters = []string{"a", "b", "c", "d"}

// count counts without an end.
func count(dir string) error {
	var files []*os.File
	var maps [][]byte
	for _, name := range counters {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if err := f.Truncate(4096); err != nil {
			return err
		}
		m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		files, maps = append(files, f), append(maps, m)
	}
	fmt.Println("ready")
	for n := uint64(1); ; n++ {
		word := binary.LittleEndian.AppendUint64(nil, n)
		for i := range counters {
			if i >= 2 {
				copy(maps[i], word)
			} else if _, err := files[i].WriteAt(word, 0); err != nil {
				return err
			}
		}
	}
}

// readAll reads a directory of files that each hold their name.
func readAll(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	fmt.Println("ready")
	names, err := os.ReadDir(".")
	if err != nil {
		return err
	}
	for _, d := range names {
		b, err := os.ReadFile(d.Name())
		if err != nil || string(b) != d.Name() {
			return fmt.Errorf("%s: %q, %w", d.Name(), b, err)
		}
	}
	return nil
}

// session is a volume.Session of a store that counts the bytes put.
type session struct {
	*store.Session
	put *atomic.Int64
}

func (s session) Put(ctx context.Context, bs ...blocks.Block) error {
	for _, b := range bs {
		s.put.Add(int64(len(b.RawData())))
	}
	return s.Session.Put(ctx, bs...)
}

func (s session) SaveStat(ctx context.Context, recs []importer.StatRecord) error {
	own := make([]store.StatRecord, len(recs))
	for i, r := range recs {
		own[i] = store.StatRecord(r)
	}
	return s.Session.SaveStat(ctx, own)
}

// timed measures how long pauses last, and how much is put meanwhile and at all.
type timed struct {
	volume.Pauser
	last, most, all time.Duration
	put             atomic.Int64
	putMeanwhile    int64
}

func (p *timed) Pause(ctx context.Context, mount string) (func() error, error) {
	began := time.Now()
	resume, err := p.Pauser.Pause(ctx, mount)
	before := p.put.Load()
	return func() error {
		p.putMeanwhile = p.put.Load() - before
		err := resume()
		p.last = time.Since(began)
		p.most, p.all = max(p.most, p.last), p.all+p.last
		return err
	}, err
}

// newVolume mounts a volume of a host of its own, and returns where.
func newVolume(t *testing.T) (*volume.Manager, snapshot.Blocks, *timed, string) {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "store"), store.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	pins := local.New(st, st.BeginSweep)
	f, err := freezer.Open(filepath.Join(dir, "paused"), freezer.Options{})
	must(t, err)
	p := &timed{Pauser: f}
	m, err := volume.Open(filepath.Join(dir, "volumes"), volume.Options{
		Begin: func(ctx context.Context) (volume.Session, error) {
			s, err := st.Session(ctx)
			return session{s, &p.put}, err
		},
		Blocks: st, Pins: pins, Own: pins, Author: "test", Pauser: p,
		Mounter: overlay.New(holder.NewLower(holder.LowerOptions{})),
	})
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	_, err = m.Do(t.Context(), &volume.Create{Name: "data"})
	must(t, err)
	res, err := m.Do(t.Context(), &volume.Mount{Name: "data"})
	must(t, err)
	t.Cleanup(func() {
		_, err := m.Do(context.Background(), &volume.Unmount{Name: "data"})
		must(t, err)
	})
	return m, st, p, res.Path
}

// counted reads the numbers a snapshot has.
func counted(t *testing.T, b snapshot.Blocks, c volume.CID) (ns []uint64) {
	t.Helper()
	s, err := tree.Open(t.Context(), b, c.Cid)
	must(t, err)
	for _, name := range counters {
		e, err := s.Lookup(t.Context(), name)
		must(t, err)
		r, err := s.Reader(t.Context(), e)
		must(t, err)
		word := make([]byte, 8)
		_, err = io.ReadFull(r, word)
		must(t, err)
		must(t, r.Close())
		ns = append(ns, binary.LittleEndian.Uint64(word))
	}
	return ns
}

func TestRealFilesOfAPausedCommitAreOfOneInstant(t *testing.T) {
	m, b, pauses, dir := newVolume(t)
	g := newCgroup(t)
	writer := g.start(t, child(t, childJob{Write: dir}))
	now := func() uint64 {
		word := make([]byte, 8)
		f, err := os.Open(filepath.Join(dir, counters[0]))
		must(t, err)
		defer f.Close()
		_, err = io.ReadFull(f, word)
		must(t, err)
		return binary.LittleEndian.Uint64(word)
	}
	const commits = 40
	var took time.Duration
	for range commits {
		before, began := now(), time.Now()
		res, err := m.Do(t.Context(), &volume.Commit{Name: "data", Pause: true})
		must(t, err)
		took += time.Since(began)
		ns := counted(t, b, res.Commit)
		if !res.Created || res.Consistency != snapshot.Paused || slices.Max(ns)-slices.Min(ns) > 1 || !slices.IsSortedFunc(ns, func(x, y uint64) int { return int(y - x) }) {
			t.Errorf("a commit that says it is %q has %d", res.Consistency, ns)
		}
		if ns[0] < before {
			t.Errorf("a commit has %d, although %d was written before", ns, before)
		}
		until(t, "the writer goes on", func() bool { return now() > ns[0] })
	}
	t.Logf("a paused commit takes %s, of which the writer is stopped for %s, at most %s", took/commits, pauses.all/commits, pauses.most)
	torn := 0
	for range commits {
		res, err := m.Do(t.Context(), &volume.Commit{Name: "data"})
		must(t, err)
		if ns := counted(t, b, res.Commit); slices.Max(ns)-slices.Min(ns) > 1 {
			torn++
		}
	}
	t.Logf("%d of %d commits without a pause have files of different instants", torn, commits)
	stop(writer)
}

func TestRealWhatWasWrittenLongBeforeIsReadBeforeThePause(t *testing.T) {
	m, _, pauses, dir := newVolume(t)
	g := newCgroup(t)
	g.start(t, inside(dir))
	large, err := os.Create(filepath.Join(dir, "large"))
	must(t, err)
	const size = 128 << 20
	_, err = io.CopyN(large, rand.NewChaCha8([32]byte{}), size)
	must(t, errors.Join(err, large.Close()))
	written := time.Now()
	until(t, "the file is old enough to be remembered", func() bool { return time.Since(written) > importer.DefaultSlack+time.Second })
	began := time.Now()
	res, err := m.Do(t.Context(), &volume.Commit{Name: "data", Pause: true})
	must(t, err)
	took := time.Since(began)
	if all := pauses.put.Load(); res.Consistency != snapshot.Paused || all < size || pauses.putMeanwhile > size/100 {
		t.Errorf("for a commit that says it is %q, %d of %d bytes were read in the pause", res.Consistency, pauses.putMeanwhile, all)
	}
	t.Logf("of %s, %s were a pause", took, pauses.last)
}

// Whoever is stopped while the daemon reads for it must not see that.
func TestRealAPauseInterruptsNoRead(t *testing.T) {
	m, _, pauses, dir := newVolume(t)
	for i := range 2000 {
		name := fmt.Sprint("file", i)
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
	}
	_, err := m.Do(t.Context(), &volume.Unmount{Name: "data"})
	must(t, err)
	res, err := m.Do(t.Context(), &volume.Mount{Name: "data"})
	must(t, err)
	g := newCgroup(t)
	reader := g.start(t, child(t, childJob{Read: res.Path}))
	ended := make(chan error)
	go func() { ended <- reader.Wait() }()
	for n := 0; ; n++ {
		select {
		case err := <-ended:
			must(t, err)
			if n == 0 {
				t.Error("it was never stopped")
			}
			t.Logf("%d pauses", n)
			return
		default:
		}
		resume, err := pauses.Pause(t.Context(), res.Path)
		must(t, err)
		must(t, resume())
	}
}
