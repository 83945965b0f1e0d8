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
	"golang.org/x/sys/unix"

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

// events are what happens to the volume as a whole, by the kind of an operation.
func (r *rig) events() map[string]func(context.Context, modeltest.Op) error {
	return map[string]func(context.Context, modeltest.Op) error{
		"commit": r.commit, "look": r.look, "remount": r.remount, "restart": r.goOn, "rebase": r.rebase,
		"rollback": r.rollback, "clone": r.clone, "collect": r.clean, "kill": r.kill, "upgrade": r.upgrade, "lose": r.lose,
	}
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
		Since: r.since, AnyTime: r.pair.Mapped, Holes: len(r.commits) == 0, // nothing was copied up yet
	})
	if err != nil {
		return err
	}
	if len(differences) > 0 {
		return fmt.Errorf("it is not as in a plain directory:\n  %s", strings.Join(differences, "\n  "))
	}
	return nil
}

func (r *rig) unmount(ctx context.Context) error {
	r.pair.Close()
	_, err := r.Do(ctx, &volume.Unmount{Name: name})
	return err
}

// remount mounts the same changes again, by a new server of the lower layer.
func (r *rig) remount(ctx context.Context, o modeltest.Op) error {
	if err := r.unmount(ctx); err != nil {
		return err
	}
	if err := r.reopen(ctx); err != nil {
		return err
	}
	if _, err := r.Do(ctx, &volume.Mount{Name: name}); err != nil {
		return err
	}
	return r.look(ctx, o)
}

// goOn ends the Manager and begins another, while the mount goes on and files are held open.
func (r *rig) goOn(ctx context.Context, o modeltest.Op) error { return r.restart(ctx) }

// kill has the daemon die in the middle of something, while the mount is worked in. Nothing waits for the next one.
func (r *rig) kill(ctx context.Context, o modeltest.Op) error {
	return r.host.(*daemon).interrupt(ctx, o, unix.SIGKILL)
}

// upgrade has the daemon end as it is told to, and another take over.
func (r *rig) upgrade(ctx context.Context, o modeltest.Op) error {
	return r.host.(*daemon).interrupt(ctx, o, unix.SIGTERM)
}

// rebase commits, and begins anew with that as the base.
func (r *rig) rebase(ctx context.Context, o modeltest.Op) error {
	if err := r.set(ctx, volume.CommitOnUnmount); err != nil {
		return err
	}
	if err := r.unmount(ctx); err != nil {
		return err
	}
	if err := r.set(ctx, volume.CommitManually); err != nil {
		return err
	}
	res, err := r.Do(ctx, &volume.Mount{Name: name})
	if err != nil {
		return err
	}
	if i := res.Volume; i.Base != i.Head {
		return fmt.Errorf("mounted on %s, not on the head %s", i.Base, i.Head)
	}
	r.pair.Tested = res.Path
	err = errors.Join(r.isPlain(ctx, res.Commit.Cid), r.look(ctx, o))
	r.committed(res.Commit.Cid)
	return err
}

func (r *rig) set(ctx context.Context, when string) error {
	_, err := r.Do(ctx, &volume.Set{Name: name, Options: map[string]string{"commit": when}})
	return err
}

// rollback goes back to one of the commits, on both sides. What was not committed is in a commit then.
func (r *rig) rollback(ctx context.Context, o modeltest.Op) error {
	if len(r.commits) == 0 {
		return nil
	}
	if err := r.unmount(ctx); err != nil {
		return err
	}
	to := r.commits[o.Seed%uint64(len(r.commits))]
	res, err := r.Do(ctx, &volume.Rollback{Name: name, To: to.String()})
	if err != nil {
		return err
	}
	before, err := r.Resolve(ctx, name+"@~1")
	if err != nil {
		return err
	}
	if err := r.isPlain(ctx, before); err != nil {
		return fmt.Errorf("what was committed before: %w", err)
	}
	if err := r.newPlain(ctx); err != nil {
		return err
	}
	r.committed(res.Commit.Cid)
	return r.look(ctx, o)
}

// clone makes a volume of the head and looks into it, read-only or not.
func (r *rig) clone(ctx context.Context, o modeltest.Op) error {
	if err := r.commit(ctx, o); err != nil {
		return err
	}
	if _, err := r.Do(ctx, &volume.Clone{Name: name, To: "clone"}); err != nil {
		return err
	}
	res, err := r.Do(ctx, &volume.Mount{Name: "clone", ReadOnly: o.Mode != 0})
	if err != nil {
		return err
	}
	err = r.looksLike(ctx, res.Path)
	_, removeErr := r.Do(ctx, &volume.Remove{Name: "clone", Force: true})
	return errors.Join(err, removeErr)
}

// lose has the daemon die and its database go with it. What was not committed is then in a snapshot, of which the
// volume is made again, or to which it goes if what it told others is left, which has its head.
func (r *rig) lose(ctx context.Context, o modeltest.Op) error {
	d := r.host.(*daemon)
	i, err := d.host.Volumes.Inspect(ctx, name)
	if err != nil {
		return err
	}
	r.pair.Close()
	alone := o.Mode == 0
	var also []string
	if alone {
		also = []string{"heads.db"}
	}
	from, err := d.lose(ctx, also...)
	if err != nil {
		return err
	}
	if !from.Defined() {
		from = i.Head.Cid // there was nothing else
	}
	if err := r.isPlain(ctx, from); err != nil {
		return fmt.Errorf("recovered: %w", err)
	}
	if alone {
		_, err = r.Do(ctx, &volume.Create{Name: name, From: from.String(), Options: i.Options})
	} else if _, err = r.Do(ctx, &volume.Set{Name: name, Options: i.Options}); err == nil && from != i.Head.Cid {
		_, err = r.Do(ctx, &volume.Rollback{Name: name, To: from.String()})
	}
	if err != nil {
		return err
	}
	res, err := r.Do(ctx, &volume.Mount{Name: name})
	if err != nil {
		return err
	}
	r.pair.Tested = res.Path
	return r.look(ctx, o)
}

// clean removes from the store what no volume needs, and looks whether what is to be kept is still whole.
func (r *rig) clean(ctx context.Context, o modeltest.Op) error {
	if err := r.collect(ctx); err != nil {
		return err
	}
	for _, c := range r.commits {
		s, err := tree.Open(ctx, r.blocks(), c)
		if err != nil {
			return err
		}
		if err := s.CheckSize(ctx, "", tree.Limits{}); err != nil {
			return err
		}
	}
	return nil
}
