package holder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/view"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounts"
)

// LowerOptions say how lower layers are mounted. The zero value mounts without a holder: what is mounted cannot
// be read once this process ends.
type LowerOptions struct {
	Holder    *Client       // nil: mounts end with this process
	IOTimeout time.Duration // of mounts that do not say; see view.Options
	Logger    *slog.Logger  // nil discards
}

// Lower mounts snapshots as the lower layers of overlays, all of the same blocks. All methods are safe for concurrent use.
type Lower struct {
	o      LowerOptions
	memory *view.Memory // of all mounts

	mu     sync.Mutex
	closed bool
	served map[string]*served // by directory
	locks  map[string]*lock   // by directory
}

// lock is of one directory: mounting and unmounting may take long, and shall keep nobody else waiting.
type lock struct {
	sync.Mutex
	wanted int // by how many it is held or waited for
}

// lock waits until nobody else works on a directory, and returns how to let others.
func (l *Lower) lock(dir string) (unlock func()) {
	l.mu.Lock()
	k := l.locks[dir]
	if k == nil {
		k = new(lock)
		l.locks[dir] = k
	}
	k.wanted++
	l.mu.Unlock()
	k.Lock()
	return func() {
		k.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.wanted--; k.wanted == 0 {
			delete(l.locks, dir)
		}
	}
}

// at returns the mount of a directory that this process serves, if any.
func (l *Lower) at(dir string) (m *served, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.served[dir], l.closed
}

// served is a mount that this process serves.
type served struct {
	server   *view.Server
	snapshot string
	options  volume.MountOptions
	refused  bool          // all that is asked of it
	ended    chan struct{} // closed when nobody can use the mount any more

	// When the kernel is to let go of names again that nobody uses, and what was shown when it did last.
	pruned cid.Cid
	next   time.Time
	wait   time.Duration
}

func newServed(srv *view.Server, root cid.Cid, o volume.MountOptions) *served {
	return &served{server: srv, snapshot: root.KeyString(), options: lasting(o), ended: make(chan struct{})}
}

// NewLower returns a Lower that serves nothing yet.
func NewLower(o LowerOptions) *Lower {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Lower{o: o, memory: view.NewMemory(), served: map[string]*served{}, locks: map[string]*lock{}}
}

// Mount shows a snapshot at dir, or goes on with showing it; with the option Follow, with whatever is shown there. A dead mount at dir, whose server went without a
// holder, is taken away first.
func (l *Lower) Mount(ctx context.Context, s *tree.Snapshot, dir string, o volume.MountOptions) error {
	defer l.lock(dir)()
	if alive, err := l.goOn(ctx, s, dir, o); err != nil || alive {
		return err
	}
	v := l.viewOptions(o)
	if l.o.Holder != nil {
		v.Keep = func(c view.Connection) error { return l.put(ctx, dir, s.CID, c, lasting(o)) }
	}
	srv, err := view.Mount(ctx, s, dir, v)
	if err != nil {
		return err
	}
	return l.serve(dir, newServed(srv, s.CID, o))
}

// Resume goes on with showing a snapshot at dir, if it is shown there, and reports whether it is. If not, what is
// mounted at dir is dead, and was taken away. It asks the mount nothing: who waits for an answer that only this process
// can give cannot be ended.
func (l *Lower) Resume(ctx context.Context, s *tree.Snapshot, dir string, o volume.MountOptions) (alive bool, err error) {
	defer l.lock(dir)()
	return l.goOn(ctx, s, dir, o)
}

// goOn is called with the directory's lock.
func (l *Lower) goOn(ctx context.Context, s *tree.Snapshot, dir string, o volume.MountOptions) (alive bool, err error) {
	was, closed := l.at(dir)
	if closed {
		return false, fmt.Errorf("mount %s at %s: %w", s.CID, dir, fs.ErrClosed)
	}
	mounted, err := mounts.IsPoint(dir)
	if err != nil {
		return false, fmt.Errorf("mount %s at %s: %w", s.CID, dir, err)
	}
	switch {
	case !mounted:
		return false, nil
	case was != nil && !was.refused:
		return true, was.same(s, dir, o)
	case was != nil:
		was.server.Stop()
	}
	return l.resume(ctx, s, dir, o)
}

// heldMount is what a holder is told of a mount.
type heldMount struct {
	Root    string              `json:"root"`
	Options volume.MountOptions `json:"options"` // the lasting ones
	Init    []byte              `json:"init"`
	// Generations are the snapshots that the kernel may know entries of, if it was mounted to show one after another.
	Generations []view.Generation `json:"generations,omitempty"`
}

func (l *Lower) put(ctx context.Context, dir string, root cid.Cid, c view.Connection, o volume.MountOptions) error {
	data, err := json.Marshal(heldMount{root.String(), o, c.Init, c.Generations})
	if err != nil {
		return err
	}
	return l.o.Holder.Put(ctx, dir, data, c.Device, c.Table)
}

// Rehold gives the holder what it does not have, which is everything if it died meanwhile and another one took its
// place. To be called now and then, as long as this process can still give.
func (l *Lower) Rehold(ctx context.Context) error {
	if l.o.Holder == nil {
		return nil
	}
	l.mu.Lock()
	dirs := slices.Sorted(maps.Keys(l.served))
	l.mu.Unlock()
	if len(dirs) == 0 {
		return nil
	}
	has, err := l.o.Holder.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		if !slices.Contains(has, dir) {
			errs = append(errs, l.rehold(ctx, dir))
		}
	}
	return errors.Join(errs...)
}

func (l *Lower) rehold(ctx context.Context, dir string) error {
	defer l.lock(dir)()
	l.mu.Lock()
	m := l.served[dir]
	l.mu.Unlock()
	if m == nil {
		return nil // unmounted meanwhile
	}
	root, err := cid.Cast([]byte(m.snapshot))
	if err != nil {
		return err
	}
	c := m.server.Connection()
	if len(c.Generations) > 0 {
		root = c.Generations[0].Root
	}
	l.o.Logger.Warn("the holder did not have a mount", logName, dir)
	return l.put(ctx, dir, root, c, m.options)
}

func (l *Lower) viewOptions(o volume.MountOptions) view.Options {
	timeout := o.IOTimeout
	if timeout == 0 {
		timeout = l.o.IOTimeout
	}
	return view.Options{Lower: !o.ReadOnly, Follow: o.Follow, Foreign: o.Foreign, AllowOther: true, IOTimeout: timeout, Memory: l.memory, Logger: l.o.Logger}
}

// lasting are the options that stay the same as long as a snapshot is mounted.
func lasting(o volume.MountOptions) volume.MountOptions {
	o.Size, o.IOTimeout = 0, 0
	return o
}

// serve is called with the directory's lock. If Close came between, the mount is for the next process.
func (l *Lower) serve(dir string, m *served) error {
	l.mu.Lock()
	closed := l.closed
	l.served[dir] = m
	l.mu.Unlock()
	go func() {
		m.server.Wait()
		close(m.ended)
		defer l.lock(dir)()
		if l.forget(dir, m) {
			l.letGo(context.Background(), dir)
		}
	}()
	if closed {
		m.server.Stop()
		return fmt.Errorf("mount at %s: %w", dir, fs.ErrClosed)
	}
	return nil
}

// forget reports whether a mount that has ended was still the one of its directory.
func (l *Lower) forget(dir string, m *served) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.served[dir] != m || l.closed {
		return false
	}
	delete(l.served, dir)
	return true
}

// same reports an error if something else is asked for than what is served.
func (m *served) same(s *tree.Snapshot, dir string, o volume.MountOptions) error {
	if m.snapshot != s.CID.KeyString() && !o.Follow || m.options != lasting(o) {
		return otherMount(s, dir)
	}
	return nil
}

func otherMount(s *tree.Snapshot, dir string) error {
	return fmt.Errorf("mount %s at %s: something else is mounted there: %w", s.CID, dir, fs.ErrExist)
}

// letGo has the holder forget a mount that has ended. What it does not hear it finds out by itself.
func (l *Lower) letGo(ctx context.Context, dir string) {
	if l.o.Holder == nil {
		return
	}
	if err := l.o.Holder.Drop(ctx, dir); err != nil {
		l.o.Logger.Warn("tell the holder", logName, dir, logError, err)
	}
}

// Unmount ends what is shown at dir. The error wraps [volume.ErrInUse] if it is still visible elsewhere, in another
// mount namespace, or belongs to an overlay that is: it is served and held as long as that lasts.
func (l *Lower) Unmount(ctx context.Context, dir string) error {
	defer l.lock(dir)()
	m, _ := l.at(dir)
	err := view.Unmount(dir)
	// Who looks at it in passing, as df(1) does, has it for a moment.
	for end, over := time.Now().Add(passing), false; errors.Is(err, unix.EBUSY) && !over && ctx.Err() == nil; err = view.Unmount(dir) {
		<-time.After(passing / 20)
		over = time.Now().After(end)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %w", volume.ErrInUse, err)
	}
	if err != nil {
		return err
	}
	if m != nil {
		if err := m.untilEnded(ctx); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		l.forget(dir, m)
	}
	l.letGo(ctx, dir)
	return nil
}

// untilEnded returns when a mount has ended that is unmounted. One that is visible elsewhere does not.
func (m *served) untilEnded(ctx context.Context) error {
	select {
	case <-m.ended:
		return nil
	case <-time.After(unmountWait):
	case <-ctx.Done():
		return ctx.Err()
	}
	// The kernel knows it, however long this process takes to answer what it was asked before.
	if !m.server.Over() {
		return fmt.Errorf("it is still visible elsewhere: %w", volume.ErrInUse)
	}
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends serving what is held, after what was begun is answered: who uses it waits for the next process.
// What is not held is served as long as this process lives.
func (l *Lower) Close() error {
	if l.o.Holder == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := l.Rehold(ctx)
	l.mu.Lock()
	l.closed = true
	all := slices.Collect(maps.Values(l.served))
	l.mu.Unlock()
	var work sync.WaitGroup
	for _, m := range all {
		work.Go(m.server.Stop)
	}
	work.Wait()
	return err
}

const (
	// unmountWait is how long the end of a mount is waited for.
	unmountWait = 2 * time.Second
	// passing is how long a mount may be in use by somebody who does not stay.
	passing = 500 * time.Millisecond
)
