//go:build real

package modeltest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/modeltest"
	"github.com/volary/volary/volume/overlay"
)

// machine is a state directory with what a Manager needs, and real mounts.
type machine struct {
	dir     string
	step    func(label string) error
	boot    string
	lower   holder.LowerOptions
	store   *store.Store
	pins    *local.Set
	mounter *overlay.Mounter
	*volume.Manager
}

type session struct{ *store.Session }

func (s session) SaveStat(ctx context.Context, recs []importer.StatRecord) error {
	own := make([]store.StatRecord, len(recs))
	for i, r := range recs {
		own[i] = store.StatRecord(r)
	}
	return s.Session.SaveStat(ctx, own)
}

// open begins the life of a process.
func (m *machine) open(ctx context.Context) (err error) {
	if m.store, err = store.Open(filepath.Join(m.dir, "store"), store.Options{}); err != nil {
		return err
	}
	m.pins = local.New(m.store, m.store.BeginSweep)
	m.mounter = overlay.New(holder.NewLower(m.lower))
	if err := m.manage(ctx); err != nil {
		return errors.Join(err, m.store.Close())
	}
	return nil
}

func (m *machine) manage(ctx context.Context) (err error) {
	begin := func(ctx context.Context) (volume.Session, error) {
		s, err := m.store.Session(ctx)
		return session{s}, err
	}
	m.Manager, err = volume.Open(filepath.Join(m.dir, "volumes"), volume.Options{
		Begin: begin, Blocks: m.store, Pins: m.pins, Own: m.pins, Tags: m.pins, Mounter: m.mounter, Author: "test", Step: m.step, Boot: m.boot,
	})
	if err != nil {
		return err
	}
	return m.Start(ctx)
}

func (m *machine) close() error { return errors.Join(m.Manager.Close(), m.store.Close()) }

func (m *machine) blocks() snapshot.Blocks { return m.store }

func (m *machine) collect(ctx context.Context) error {
	_, err := m.pins.Collect(ctx, local.CollectOptions{})
	return err
}

func (m *machine) restart(ctx context.Context) error {
	if err := m.Manager.Close(); err != nil {
		return err
	}
	return m.manage(ctx)
}

func (m *machine) reopen(ctx context.Context) error {
	if err := m.close(); err != nil {
		return err
	}
	return m.open(ctx)
}

// contents are the files of a snapshot.
func (m *machine) contents(t *testing.T, c cid.Cid) map[string]string {
	t.Helper()
	ctx := t.Context()
	s, err := tree.Open(ctx, m.store, c)
	must(t, err)
	files := map[string]string{}
	for e, err := range s.Walk(ctx, "", tree.Limits{}) {
		must(t, err)
		if e.Type != meta.File {
			continue
		}
		r, err := s.Reader(ctx, e.Entry)
		must(t, err)
		data, err := io.ReadAll(r)
		must(t, errors.Join(err, r.Close()))
		files[e.Path] = string(data)
	}
	return files
}

// host has the volumes: this process, or a daemon.
type host interface {
	Do(ctx context.Context, op volume.Operation) (volume.Result, error)
	Resolve(ctx context.Context, ref string) (cid.Cid, error)
	blocks() snapshot.Blocks
	collect(ctx context.Context) error
	restart(ctx context.Context) error // while mounts go on
	reopen(ctx context.Context) error  // when nothing is mounted
	close() error
}

var _ host = (*machine)(nil)

// rig is a volume, and a plain directory on the same file system that is to be the same.
type rig struct {
	host
	dir     string
	since   time.Time
	pair    *modeltest.Pair
	plains  int
	commits []cid.Cid      // the last ones
	made    int            // commits altogether
	compare int            // how many comparisons there were
	errors  map[string]int // that both directories gave
}

const name = "data"

// recent is how many commits are gone back to. Retention keeps more, for rollbacks and daemons that end make some, too.
const recent = 20

// newRig makes a volume below a directory; a daemon has it if there is a program for one.
func newRig(ctx context.Context, dir, program string, options map[string]string) (*rig, error) {
	r := &rig{dir: dir, since: time.Now().Add(-time.Minute), errors: map[string]int{}}
	state := filepath.Join(dir, "state")
	err := os.MkdirAll(state, 0o711)
	if err == nil && program != "" {
		r.host, err = newDaemon(ctx, program, state)
	} else if err == nil {
		m := &machine{dir: state}
		r.host, err = m, m.open(ctx)
	}
	if err != nil {
		return nil, err
	}
	all := map[string]string{"commit": volume.CommitManually, "keep": fmt.Sprint("last:", 4*recent)}
	maps.Copy(all, options)
	if _, err := r.Do(ctx, &volume.Create{Name: name, Options: all}); err != nil {
		return nil, errors.Join(err, r.close())
	}
	if err := r.newPlain(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// end lets go of everything.
func (r *rig) end(ctx context.Context) error {
	r.note()
	r.pair.Close()
	if err := r.join(); err != nil {
		return err
	}
	_, err := r.Do(ctx, &volume.Unmount{Name: name})
	return errors.Join(err, r.close())
}

// join waits until nothing happens beside.
func (r *rig) join() error {
	if d, ok := r.host.(*daemon); ok {
		return d.join()
	}
	return nil
}

// note adds up what the pair saw.
func (r *rig) note() {
	for e, n := range r.pair.Errors() {
		r.errors[e] += n
	}
}

// newPlain mounts the volume, and makes a new plain directory like it.
func (r *rig) newPlain(ctx context.Context) error {
	res, err := r.Do(ctx, &volume.Mount{Name: name})
	if err != nil {
		return err
	}
	if r.pair != nil {
		r.note()
		if err := os.RemoveAll(r.pair.Plain); err != nil {
			return err
		}
	}
	r.plains++
	r.pair = modeltest.NewPair(res.Path, filepath.Join(r.dir, fmt.Sprint("plain-", r.plains)))
	head, err := tree.Open(ctx, r.blocks(), res.Commit.Cid)
	if err != nil {
		return err
	}
	_, err = restorer.Restore(ctx, head, "", r.pair.Plain, restorer.Options{})
	return err
}

func (r *rig) do(ctx context.Context, o modeltest.Op) error {
	event, ok := r.events()[o.Kind]
	if !ok {
		return r.pair.Do(o)
	}
	if err := r.join(); err != nil {
		return fmt.Errorf("before %s: %w", o, err)
	}
	if err := event(ctx, o); err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	return nil
}

// commit makes a commit, which must be what the plain directory is.
func (r *rig) commit(ctx context.Context, o modeltest.Op) error {
	res, err := r.Do(ctx, &volume.Commit{Name: name})
	if err != nil {
		return err
	}
	if len(res.Unsettled) > 0 {
		return fmt.Errorf("nobody changed anything, and %q did not settle", res.Unsettled)
	}
	r.committed(res.Commit.Cid)
	return r.isPlain(ctx, res.Commit.Cid)
}

func (r *rig) committed(c cid.Cid) {
	r.made++
	r.commits = append(r.commits[max(0, len(r.commits)-recent+1):], c)
}

// isPlain fails unless a commit is of what is in the plain directory.
func (r *rig) isPlain(ctx context.Context, c cid.Cid) error {
	got, err := tree.Open(ctx, r.blocks(), c)
	if err != nil {
		return err
	}
	return r.same(ctx, got)
}

// look compares what is seen in the mount with the plain directory.
func (r *rig) look(ctx context.Context, o modeltest.Op) error {
	return r.looksLike(ctx, r.pair.Tested)
}

func (r *rig) looksLike(ctx context.Context, dir string) error {
	seen, err := imported(ctx, dir)
	if err != nil {
		return err
	}
	if err := r.same(ctx, seen); err != nil {
		return fmt.Errorf("seen at %s: %w", dir, err)
	}
	return nil
}

func imported(ctx context.Context, dir string) (*tree.Snapshot, error) {
	b := blockstest.NewMemory()
	res, err := importer.Import(ctx, b, dir, importer.Options{NoIgnoreFile: true})
	if err != nil {
		return nil, err
	}
	return tree.OpenCommit(ctx, b, res.Commit)
}

func (r *rig) same(ctx context.Context, got *tree.Snapshot) error {
	want, err := imported(ctx, r.pair.Plain)
	if err != nil {
		return err
	}
	r.compare++
	differences, err := modeltest.Compare(ctx, got, want, modeltest.Comparison{
		Since: r.since, AnyTime: r.pair.Mapped, AnyHoles: r.pair.Filled, Holes: len(r.commits) == 0, // nothing was copied up yet
	})
	if err != nil {
		return err
	}
	if len(differences) > 0 {
		return fmt.Errorf("it is not as in a plain directory:\n  %s", strings.Join(differences, "\n  "))
	}
	return nil
}
