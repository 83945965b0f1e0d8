package holder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/view"
	"github.com/volary/volary/volume"
)

// LowerOptions say how lower layers are mounted. The zero value mounts without a holder: what is mounted cannot
// be read once this process ends.
type LowerOptions struct {
	IOTimeout time.Duration // see view.Options
	Logger    *slog.Logger  // nil discards
}

// Lower mounts snapshots as the lower layers of overlays. All methods are safe for concurrent use.
type Lower struct {
	o LowerOptions

	mu     sync.Mutex
	served map[string]*served // by directory
}

// served is a mount that this process serves.
type served struct {
	server   *view.Server
	snapshot string
	options  volume.MountOptions
}

// NewLower returns a Lower that serves nothing yet.
func NewLower(o LowerOptions) *Lower {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Lower{o: o, served: map[string]*served{}}
}

// Mount shows a snapshot at dir, or goes on with showing it.
func (l *Lower) Mount(ctx context.Context, s *tree.Snapshot, dir string, o volume.MountOptions) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.served[dir]; m != nil {
		return m.same(s, dir, o)
	}
	srv, err := view.Mount(ctx, s, dir, l.viewOptions(o))
	if err != nil {
		return err
	}
	l.serve(dir, &served{srv, s.CID.KeyString(), o})
	return nil
}

func (l *Lower) viewOptions(o volume.MountOptions) view.Options {
	return view.Options{Lower: !o.ReadOnly, Foreign: o.Foreign, AllowOther: true, IOTimeout: l.o.IOTimeout, Logger: l.o.Logger}
}

// serve is called with the lock.
func (l *Lower) serve(dir string, m *served) {
	l.served[dir] = m
	go func() {
		m.server.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.served[dir] == m {
			delete(l.served, dir)
		}
	}()
}

// same reports an error if something else is asked for than what is served.
func (m *served) same(s *tree.Snapshot, dir string, o volume.MountOptions) error {
	if m.snapshot != s.CID.KeyString() || m.options != o {
		return fmt.Errorf("mount %s at %s: something else is mounted there: %w", s.CID, dir, fs.ErrExist)
	}
	return nil
}

// Unmount ends what is shown at dir.
func (l *Lower) Unmount(ctx context.Context, dir string) error {
	l.mu.Lock()
	m := l.served[dir]
	delete(l.served, dir)
	l.mu.Unlock()
	err := view.Unmount(dir)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if m == nil {
		return err
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.served[dir] = m
		return err
	}
	m.server.Wait()
	return nil
}
