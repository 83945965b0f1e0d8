// Package view shows a snapshot as a read-only directory, by FUSE.
//
// Start with [Mount], which returns as soon as the snapshot's root is known: names, attributes and contents are
// read when the kernel asks for them, and what is read was verified against its CID. [Resume] goes on with a
// mount whose server is gone.
//
// A server keeps nothing about what the kernel knows. The number of an entry says where it is, so that a server
// which never saw it before can answer for it; see [View]. Nothing ever changes, so the kernel may keep all it
// was told. A snapshot may be anybody's: memory is bounded whatever it holds, and what is malformed costs an
// EIO at that place and a line in the log.
package view

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
)

// DefaultIOTimeout is how long a block is waited for.
const DefaultIOTimeout = time.Minute

// Bounds of what a view keeps in memory by itself.
const (
	maxLinks = 96 << 20 // bytes of the table of hardlinks
	maxSlots = 2 << 20  // directories without a row that have been listed
)

// Options say how a snapshot is shown. The zero value shows it as it is.
type Options struct {
	Path string // of the directory in the snapshot that is shown; empty for all of it
	// Lower is for a lower layer of an overlay: attributes that overlayfs would take for its own are escaped,
	// and character devices 0/0, which it takes for deletions, are hidden.
	Lower bool
	// Foreign is for a snapshot made elsewhere: set-user-ID bits and devices have no effect in the mount.
	Foreign bool
	// Follow is for a mount that is to show another snapshot later; see Server.Follow. Path is not for it.
	Follow     bool
	AllowOther bool          // other users may use the mount; without it only who mounted, with all permissions
	IOTimeout  time.Duration // how long a block is waited for; 0 is DefaultIOTimeout
	Memory     *Memory       // nil: one of its own
	// Keep, if set, is given what it takes to go on with a new mount, before anything is asked of the mount: if this
	// process is killed while it waits for itself, only another one's answers let it end. The mount ends if it fails.
	Keep   func(Connection) error
	Logger *slog.Logger // nil discards
}

// View answers what the kernel asks about one snapshot. The inode and node number of an entry with a row in the
// sidecar is one more than its number in preorder, from which the way to it can be found. The others are
// numbered by their directory: see slots. Names of a hardlinked file have the number of the first of them.
type View struct {
	fuse.RawFileSystem // answers what a read-only file system has no answer to

	snap  *tree.Snapshot
	root  node
	o     Options
	log   *slog.Logger
	slots *slots
	links *links

	// Of one of several snapshots that a mount shows one after another; see follower.
	high     uint64        // what the numbers of its entries have above those of the snapshot
	told     *atomic.Int64 // how often the kernel was told of one of them and has not forgotten it; nil: nobody counts
	fleeting bool          // the kernel cannot be told that the root has become another one

	memory *Memory
	number uint64 // of this view in memory
	ahead  ahead
	said   said

	// Requests come from the kernel without a context: theirs are made of this one, which ends with the view.
	base context.Context
	end  context.CancelFunc
}

// newView returns the view of a snapshot's directory.
func newView(ctx context.Context, s *tree.Snapshot, o Options, sl *slots) (*View, error) {
	top, err := s.Lookup(ctx, o.Path)
	if err != nil {
		return nil, err
	}
	if !top.IsDir() {
		return nil, fmt.Errorf("a %s, not a directory: %w", top.Type, snapshot.ErrFormat)
	}
	if top.Below >= sl.bit()-1 {
		return nil, fmt.Errorf("%d entries: %w", top.Below, snapshot.ErrFormat)
	}
	o.Path = strings.Trim(path.Clean("/"+o.Path), "/")
	if o.IOTimeout <= 0 {
		o.IOTimeout = DefaultIOTimeout
	}
	memory := o.Memory
	if memory == nil {
		memory = NewMemory()
	}
	v := &View{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), snap: s, root: nodeOf(top), o: o, log: o.Logger, slots: sl,
		memory: memory, number: memory.views.Add(1),
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	v.root.name, v.root.id, v.root.known = "", fuse.FUSE_ROOT_ID, true
	v.links = &links{view: v}
	v.base, v.end = context.WithCancel(context.WithoutCancel(ctx))
	return v, nil
}

// String implements [fuse.RawFileSystem].
func (v *View) String() string { return "volary" }

// find implements source.
func (v *View) find(id uint64) (*View, uint64, func(), error) { return v, id, func() {}, nil }

// failed implements source: find never fails.
func (v *View) failed(error) fuse.Status { return fuse.EIO }

// stop implements source.
func (v *View) stop() { v.end() }

// finish implements source.
func (v *View) finish() {
	v.ahead.wait()
	v.memory.forget(v.number)
}

// within returns a context for answering one request.
func (v *View) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(v.base, v.o.IOTimeout)
}

// hasXattrs reports whether an entry of the snapshot may have extended attributes.
func (v *View) hasXattrs() bool {
	return v.snap.HasSidecar() && (v.snap.Commit == nil || !v.snap.Commit.NoXattrs)
}

// said remembers what was logged lately, so that a reader who tries again does not fill the log.
type said struct {
	mu    sync.Mutex
	lines map[string]time.Time
}

const sayAgain = time.Minute

// first reports whether a line was not logged within the last minute.
func (s *said) first(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.lines[line]; ok && time.Since(t) < sayAgain {
		return false
	}
	if len(s.lines) >= 1024 || s.lines == nil {
		s.lines = map[string]time.Time{}
	}
	s.lines[line] = time.Now()
	return true
}
