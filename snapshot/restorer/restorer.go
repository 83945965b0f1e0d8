// Package restorer puts a snapshot, or a part of one, onto the disk.
//
// [Restore] makes the target directory equal to the snapshot: contents verified against their CIDs, holes as
// holes, hardlinks as hardlinks, and everything the sidecar knows of owner, mode, times and xattrs. What is
// equal already is not touched, so a restore that was interrupted goes on where it stopped. What the caller
// may not do, or what is not done for a snapshot of another host, is summed up in the [Report].
//
// Nothing is written outside the target, whatever the snapshot says and whatever is planted in the target
// before or meanwhile: directories are opened one component at a time, symlinks are never followed, and a
// file is made under a name that did not exist or replaced by a rename. A file under its own name has its
// old content or all of its new one, after a power cut too: what replaces a file is on disk before the rename.
// Only a file that is being made for the first time may be there in part; if that fails it is unlinked, and if
// the process is killed the next restore finds that it differs. Once Restore returns without an error everything
// is on disk.
package restorer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// TempPrefix begins the names under which files are written before they replace others. A restore removes
// those that an interrupted one left, unless the snapshot itself has them.
const TempPrefix = ".volary-restore-"

// ErrBusy says that another restore into the same target is going on.
var ErrBusy = errors.New("another restore into the same directory is running")

// Options say how to restore. The zero value restores a snapshot of this host and removes nothing.
type Options struct {
	Delete     bool // remove what the snapshot does not have
	Foreign    bool // made elsewhere: leave out setuid, setgid, devices, trusted.* and security.* xattrs
	Privileged bool // leave nothing out of a foreign snapshot
	Workers    int  // files worked on at a time; 0 is DefaultWorkers
	Limits     tree.Limits
	Progress   *Progress // counts while the restore goes on; nil counts nothing
	// Step, if not nil, is called before each change to the disk, by several goroutines; its error stops the
	// restore there. Tests of crashes use it.
	Step func(label string) error
}

// Labels of the steps.
const (
	StepMkdir   = "make directory"
	StepCreate  = "create file"
	StepWrite   = "write content"
	StepAttrs   = "set attributes"
	StepRename  = "rename into place"
	StepLink    = "make hardlink"
	StepSpecial = "make symlink or special file"
	StepRemove  = "remove"
	StepSync    = "sync"
)

// DefaultWorkers is a multiple of the processors, because a worker often waits for the disk or the kernel.
func DefaultWorkers() int { return 2 * runtime.GOMAXPROCS(0) }

// Restore makes dst equal to the entry of s at sub; the empty path is all of s. The directory dst is made if it
// is missing, its parents are not. If the entry is no directory it is restored into dst under its own name (a
// foreign file that has none under its CID). The report is of use even with an error, which is the first
// that occurred and names the file.
func Restore(ctx context.Context, s *tree.Snapshot, sub, dst string, o Options) (*Report, error) {
	top, err := s.Lookup(ctx, sub)
	if err != nil {
		return &Report{}, fmt.Errorf("restore: %w", err)
	}
	if o.Delete && !top.IsDir() {
		return &Report{}, fmt.Errorf("restore %q: a %s, not a directory: there is nothing to delete around it", sub, top.Type)
	}
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers()
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	r := &run{
		s: s, o: o, base: strings.Trim(path.Clean("/"+sub), "/"), privileged: os.Geteuid() == 0, pid: os.Getpid(),
		budget: o.Limits.Budget(), devices: map[uint64]int{},
	}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	err = r.restore(top, dst)
	return r.tally.report(), err
}

// run is one restore.
type run struct {
	ctx        context.Context // ends with the first error
	cancel     context.CancelCauseFunc
	s          *tree.Snapshot
	o          Options
	base       string // path of the restored part in the snapshot
	lock       int    // the target, open and locked for as long as the restore goes on
	root       *dir
	privileged bool
	budget     *tree.Budget
	pid        int
	batches    chan *batch
	spare      chan struct{} // tokens for writing parts of a file by more goroutines
	links      links
	temps      atomic.Uint64 // temporary names given out
	buffers    sync.Pool     // of *[]byte
	tally      tally
	devices    map[uint64]int // a descriptor in each filesystem written to, by device number

	mu     sync.Mutex
	parked []*dir // directories that wait for hardlinks, those below before those above
}

func (r *run) restore(top tree.Entry, dst string) error {
	fd, err := openTarget(dst)
	if err != nil {
		return fmt.Errorf("restore into %q: %w", dst, err)
	}
	defer unix.Close(fd)
	// A filesystem without locks is no reason not to restore.
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		return fmt.Errorf("restore into %q: %w", dst, ErrBusy)
	}
	// A process forked this instant shares it until its exec: closing alone would leave the target locked.
	defer unix.Flock(fd, unix.LOCK_UN)
	r.lock = fd
	defer r.closeDevices()
	if err := r.loadLinks(); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := r.openRoot(top); err != nil {
		return fmt.Errorf("restore into %q: %w", dst, err)
	}
	r.fill(top)
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	if err := r.finishLinks(); err != nil {
		return err
	}
	return r.sync()
}

// openTarget opens the directory that a user named; symlinks in that name are the user's own.
func openTarget(dst string) (int, error) {
	if err := os.Mkdir(dst, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return -1, err
	}
	return retryFD(func() (int, error) { return unix.Open(dst, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
}

func (r *run) openRoot(top tree.Entry) error {
	fd, err := r.reopen("")
	if err != nil {
		return err
	}
	r.root = &dir{fd: fd, active: 1, entry: top}
	if !top.IsDir() {
		r.root.entry = tree.Entry{Attr: meta.Attr{Type: meta.Dir}} // its attributes are not the snapshot's
	}
	if err := r.inspect(r.root); err != nil {
		unix.Close(fd)
		return err
	}
	return nil
}

// fill restores all but the hardlinks. Errors are the cause of the run's context.
func (r *run) fill(top tree.Entry) {
	r.batches = make(chan *batch, r.o.Workers)
	r.spare = make(chan struct{}, r.o.Workers)
	var workers sync.WaitGroup
	for range r.o.Workers {
		workers.Go(r.work)
	}
	if top.IsDir() {
		r.fail(r.walk(r.root, 1))
	} else {
		r.fail(r.single(top))
	}
	r.fail(r.release(r.root))
	close(r.batches)
	workers.Wait()
}

// single restores an entry that is no directory.
func (r *run) single(e tree.Entry) error {
	if e.Name == "" {
		e.Name = r.s.CID.String()
	}
	_, err := fstatat(r.root.fd, e.Name)
	if err != nil && err != unix.ENOENT {
		return r.at(r.root, e.Name, err)
	}
	b := &batch{r: r, d: r.root}
	if err := b.add(e, err == nil); err != nil {
		return err
	}
	return b.flush()
}

// fail ends the run with its first error.
func (r *run) fail(err error) {
	if err != nil {
		r.cancel(err)
	}
}

func (r *run) step(label string) error {
	if r.o.Step == nil {
		return nil
	}
	return r.o.Step(label)
}

// at says which entry of the target an error is about; without a name it is the directory itself.
func (r *run) at(d *dir, name string, err error) error {
	path := d.path
	if name != "" {
		path = tree.Join(path, name)
	}
	return fmt.Errorf("restore %q: %w", path, err)
}

// sync makes all that was written durable.
func (r *run) sync() error {
	if err := r.step(StepSync); err != nil {
		return err
	}
	for _, fd := range r.devices {
		if err := unix.Syncfs(fd); err != nil {
			return fmt.Errorf("sync the target's filesystem: %w", err)
		}
	}
	return nil
}

func (r *run) closeDevices() {
	for _, fd := range r.devices {
		unix.Close(fd)
	}
}
