// Package volume is the mutable side of Volary: names whose every state is a snapshot.
//
// Start with [Open] and the [Manager]. A volume has a head, the commit it is at, and while it is mounted or has
// changes that are not committed an overlay: a directory for changes on top of one snapshot, its base. Mounting,
// and making a snapshot of what is mounted, is a [Mounter]'s work.
//
// It guarantees: what a method returned from is durable; an overlay and its base are recorded together before
// the first mount and never recombined; changes are thrown away only by a commit that has them or by a request
// that says so; those that no volume knows of become snapshots.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/statedb"
	"github.com/volary/volary/volume/mounts"
)

var (
	// ErrNotFound says that there is no volume, or no state of a volume, of a name.
	ErrNotFound error = sentinel{"no such volume", fs.ErrNotExist}
	// ErrExist says that a name is taken.
	ErrExist error = sentinel{"there is such a volume already", fs.ErrExist}
	// ErrTaken says that a name is that of something else, for which references would take it.
	ErrTaken error = sentinel{"the name is taken", ErrExist}
	// ErrMounted says that something cannot be done while a volume is mounted.
	ErrMounted = errors.New("volume is mounted")
	// ErrInUse says that processes have files open in a mount.
	ErrInUse = errors.New("mount is in use")
	// ErrInvalid says that a name, reference or option is not one.
	ErrInvalid = errors.New("invalid")
	// ErrNewer says that a newer version of the program wrote the state.
	ErrNewer = statedb.ErrNewer
	// ErrCannotPause says that there are processes that cannot be stopped while files are read.
	ErrCannotPause = errors.New("cannot pause those who use the volume")
	// ErrCannotMount says that this process has nothing to mount with.
	ErrCannotMount = errors.New("mounting needs the daemon")
)

// sentinel is an error of a kind that others know, with words of its own.
type sentinel struct {
	text string
	kind error
}

func (e sentinel) Error() string { return e.text }
func (e sentinel) Unwrap() error { return e.kind }

// invalidf is an ErrInvalid that says it in words of its own.
func invalidf(format string, args ...any) error {
	return sentinel{fmt.Sprintf(format, args...), ErrInvalid}
}

// Session is a snapshot.Blocks whose blocks stay until Close, with the memory of files' hashes.
type Session interface {
	snapshot.Blocks
	importer.StatCache
	io.Closer
}

// Mounter joins snapshots and directories for changes. dir is a directory of the mount's own, which outlives the
// mount and the process; what is in it is the Mounter's. All methods are safe for concurrent use, but for one
// dir only one at a time.
//
// Mount makes the changes in dir on top of base visible at Path(dir). A dir without changes is fresh. It may be
// called for a dir that is mounted already, by this process or one before it, with the same base, and then takes
// it over. Unmount is no error if dir is not mounted; it wraps ErrInUse and says who if files are open.
// Snapshot stores what is, or would be, visible at Path(dir): Tree, Meta, Stats and Import of the commit are
// set. What o.Exclude names is as the base has it. It returns the paths that changed while they were read.
type Mounter interface {
	Mount(ctx context.Context, base *tree.Snapshot, dir string, o MountOptions) error
	Unmount(ctx context.Context, dir string) error
	Snapshot(ctx context.Context, s Session, base *tree.Snapshot, dir string, o importer.Options) (*snapshot.Commit, []string, error)
	Path(dir string) string
}

// MountOptions are what a volume's options say about its mount.
type MountOptions struct {
	ReadOnly bool
	Foreign  bool // the base is somebody else's: no set-user-ID, no devices
	Full     bool // the base is copied to the local disk
	Tmpfs    bool // the changes are in memory, and gone with the mount
	// Follow is for one that is read-only, and shows another base later; see Follower. Mount of what is mounted goes on
	// with what is shown, whatever base is.
	Follow bool `json:",omitempty"`

	// These may be others each time a dir is mounted.
	Size      uint64        // bytes that the changes may take, where that can be enforced; 0: any number
	IOTimeout time.Duration // how long a block of the base is waited for; 0: what the Mounter was made with
}

// Follower is what a Mounter is beyond that if what it mounted with the option Follow can show another snapshot.
type Follower interface {
	// Follow has dir, which is mounted so, show a snapshot instead, for all who see the mount in the same step: a name
	// that is looked up once it has returned is that of s. What is open, but for the mount's root, goes on showing what it
	// showed. It returns the snapshots that can still be read through the mount as
	// far as is known, s first. If it fails, what was shown is.
	// s may be shown already: then it only says what is in use.
	Follow(ctx context.Context, s *tree.Snapshot, dir string) (shown []cid.Cid, err error)
}

// Refuser is what a Mounter is beyond that if a mount outlives the process.
type Refuser interface {
	// Refuse gives errors to who uses what an earlier process mounted at dir, instead of having them wait, until
	// Mount is called.
	Refuse(ctx context.Context, dir string) error
}

// Limiter is what a Mounter is beyond that if it knows how much space changes take.
type Limiter interface {
	// Space says what the changes in dir take, and whether they are kept from taking more than Size.
	Space(ctx context.Context, dir string) (Space, error)
	// Release is called before dir, which is not mounted, is deleted.
	Release(dir string) error
}

// Enforcer is what a Limiter is beyond that if it knows without counting whether there is a limit.
type Enforcer interface {
	// Enforces says what Space says of the changes in dir; of a directory without changes, whether those that are made in it
	// will be kept from taking more than Size.
	Enforces(dir string) (bool, error)
}

// Space is what changes take.
type Space struct {
	Used     uint64 // bytes on the disk, or in memory
	Enforced bool   // nobody can make it more than MountOptions.Size
}

// Origins remembers which commits were made on this host.
type Origins interface {
	MarkOwn(ctx context.Context, commit cid.Cid) error
	Own(ctx context.Context, commit cid.Cid) (bool, error)
}

// Options of a Manager.
type Options struct {
	Begin  func(ctx context.Context) (Session, error)
	Blocks snapshot.Blocks
	Pins   pinset.Set
	Own    Origins
	Heads  Heads  // nil: no other host knows of the volumes
	Leases Leases // nil: no other host is asked whether it writes to a volume
	// Refresh is nil, or has Heads hear what other hosts told lately, if that was not a moment ago.
	Refresh func(ctx context.Context) error
	Tags    Tagger                                               // nil: what is recovered has no tag
	IsTag   func(ctx context.Context, name string) (bool, error) // nil, or whether a snapshot has a tag of that name

	// Hydrate gets, through a session that keeps it, all of a snapshot that is not here; nil: a pin does that.
	Hydrate func(ctx context.Context, s Session, root cid.Cid) error

	Replicate Replicator // nil: there is no cluster
	// CanReplicate is nil, or refuses replicas that the cluster cannot have, as far as that is known.
	CanReplicate func(ctx context.Context, n Replicas) error

	Mounter Mounter          // nil: nothing is mounted
	Pauser  Pauser           // nil: nobody is paused
	Author  string           // peer ID of the host
	Chunker string           // of volumes that do not say; the importer's if empty
	Logger  *slog.Logger     // nil discards
	Now     func() time.Time // nil: time.Now
	Reserve uint64           // bytes of the disk that Start and Run keep free for finishing what was begun; 0: none
	Again   time.Duration    // how often what Start could not bring back is tried again; 0: DefaultAgain
	// Forgotten is how long after the last word of its engine a container that uses its volume no more is taken for gone, and
	// the volume unmounted for it; 0: it is not looked for such.
	Forgotten time.Duration
	// Visible reports whether this process sees the processes of containers for which somebody asked, by Mount.By; nil: never.
	Visible func(by string) bool
	Boot    string                   // names the boot of the machine; empty: ask the kernel
	Started func(*Info)              // nil, or called with each volume that is mounted again, before anybody else has it
	Step    func(label string) error // nil, or called before each durable step; its error stops there
}

// Manager holds the volumes of one state directory. It must be made by Open; all methods are safe for concurrent
// use.
type Manager struct {
	o   Options
	dir string
	db  *state
	log *slog.Logger

	reserve  *reserve
	sweeping sync.Mutex    // one sweep at a time
	retired  chan struct{} // has an element if there is something to sweep
	making   sync.Mutex    // between the directory of an overlay and the record of it

	mu        sync.Mutex
	locks     map[string]*nameLock
	unstarted map[string]bool       // volumes that are to be brought back first
	again     map[string]bool       // those that could not be, which is tried again
	looks     map[string]look       // by the overlays' IDs
	failures  map[string]Failure    // by the volumes' IDs
	unkept    map[string]bool       // IDs of volumes whose head other hosts made, and is not pinned yet
	shown     map[string][]cid.Cid  // what mounts that follow show, and showed before as far as it is in use, by the volumes' IDs
	kept      map[string]keptStates // by the volumes' IDs
	followed  chan struct{}         // has an element if it is to be looked what is followed
	adoptions chan struct{}         // has an element if there may be one more
	suspects  map[string]suspicion  // whether their containers are there, by the volumes' IDs
	engine    string                // who asked for containers' mounts last
	mounting  int                   // mounts of containers that are being made
	mountedAt time.Time             // when the last of them ended

	failedCommits uint64
}

// StateFile is the database in a directory of volumes.
const StateFile = "volumes.db"

const overlaysDir = "overlays"

// Open opens the volumes in a directory, which it makes if it is missing. With something to mount with, Start is to
// be called next, perhaps beside operations.
func Open(dir string, o Options) (*Manager, error) {
	if err := os.MkdirAll(filepath.Join(dir, overlaysDir), 0o711); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	db, err := openState(filepath.Join(dir, StateFile))
	if err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Boot == "" {
		o.Boot = bootID()
	}
	if o.Again == 0 {
		o.Again = DefaultAgain
	}
	m := &Manager{o: o, dir: dir, db: db, log: o.Logger, locks: map[string]*nameLock{}, unstarted: map[string]bool{}, again: map[string]bool{}, suspects: map[string]suspicion{}, retired: make(chan struct{}, 1), looks: map[string]look{}, failures: map[string]Failure{},
		unkept: map[string]bool{}, adoptions: make(chan struct{}, 1),
		shown: map[string][]cid.Cid{}, kept: map[string]keptStates{}, followed: make(chan struct{}, 1)}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.reserve = &reserve{path: filepath.Join(dir, reserveFile), size: o.Reserve, log: m.log}
	if o.Mounter != nil {
		if err := m.expectStart(); err != nil {
			return nil, errors.Join(fmt.Errorf("open volumes: %w", err), db.close())
		}
	}
	return m, nil
}

// Close gives the state up. Mounts stay.
func (m *Manager) Close() error { return m.db.close() }

func (m *Manager) step(label string) error {
	if m.o.Step == nil {
		return nil
	}
	return m.o.Step(label)
}

func (m *Manager) overlayDir(id string) string { return filepath.Join(m.dir, overlaysDir, id) }

// bootID names the boot of the machine. Where the kernel does not tell, every process is taken for one of its own.
func bootID() string {
	if b, err := mounts.Boot(); err == nil {
		return b
	}
	return newID()
}
