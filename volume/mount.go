package volume

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/snapshot/tree"
)

// DirUser begins the user of a mount at a directory of the host, which only root may ask for: the rest is its path.
const DirUser = "dir:"

// DefaultUser is who mounts a volume when nobody is named.
const DefaultUser = "cli"

// Mount makes a volume visible as a directory. Mounting for a user who has it mounted is no change.
type Mount struct {
	Name     string `json:"name"`
	User     string `json:"user,omitempty"` // DefaultUser if empty
	ReadOnly bool   `json:"read_only,omitempty"`
	Steal    bool   `json:"steal,omitempty"` // take it over from another host that writes to it
}

func (op *Mount) run(ctx context.Context, m *Manager) (Result, error) {
	m.refresh(ctx)
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if err := m.mayChange(r); err != nil && !op.ReadOnly {
		return Result{}, fmt.Errorf("mount %s: %w\nmount it with --read-only", op.Name, err)
	}
	if m.o.Mounter == nil {
		return Result{}, fmt.Errorf("mount %s: %w", op.Name, ErrCannotMount)
	}
	if err := m.acquireLease(ctx, r, op.ReadOnly, op.Steal); err != nil {
		return Result{}, fmt.Errorf("mount %s: %w", op.Name, err)
	}
	defer m.releaseLease(r)
	was := r.Head
	if err := m.catchUp(ctx, r); err != nil {
		return Result{}, fmt.Errorf("mount %s at its newest state: %w", op.Name, err)
	}
	user := op.User
	if user == "" {
		user = DefaultUser
	}
	if err := m.mount(ctx, r, user, op.ReadOnly); err != nil {
		return Result{}, fmt.Errorf("mount %s: %w", op.Name, err)
	}
	res, err := m.result(ctx, r)
	res.Path = m.o.Mounter.Path(m.overlayDir(r.Overlay.ID))
	if err == nil {
		res.Note = leftNote(res.Volume, was)
	}
	return res, err
}

func (m *Manager) mount(ctx context.Context, r *record, user string, readOnly bool) error {
	opts, err := ParseOptions(r.Options)
	if err != nil {
		return err
	}
	readOnly = readOnly || opts.ReadOnly
	if len(r.Users) > 0 && r.Overlay.ReadOnly != readOnly {
		return fmt.Errorf("%w the other way, read-only or not, by %s", ErrMounted, strings.Join(r.users(), ", "))
	}
	if r.Overlay != nil && r.Overlay.ReadOnly != readOnly {
		if _, err := m.settle(ctx, r, "before it was mounted otherwise"); err != nil {
			return err
		}
	}
	fresh := r.Overlay == nil
	if fresh {
		if err := m.newOverlay(r, opts, readOnly); err != nil {
			return err
		}
	}
	if err := m.mountOverlay(ctx, r); err != nil {
		return err
	}
	m.wentWell(r, FailedStart)
	if fresh {
		m.looked(r.Overlay, time.Now(), false)
	}
	if _, has := r.Users[user]; has {
		return nil
	}
	m.watchSize(ctx, r, opts, true)
	if err := m.step(StepUsers); err != nil {
		return err
	}
	users := maps.Clone(r.Users)
	if users == nil {
		users = map[string]time.Time{}
	}
	users[user] = m.o.Now().UTC()
	r.Users = users
	return m.db.put(r)
}

// newOverlay records a fresh directory of changes together with its base, before anything is in it.
func (m *Manager) newOverlay(r *record, o VolumeOptions, readOnly bool) error {
	next := *r
	next.Overlay = &overlayRecord{
		ID: newID(), Base: r.Head, ReadOnly: readOnly, Full: o.Lower == LowerFull, Tmpfs: o.Overlay == OverlayTmpfs, Boot: m.o.Boot,
	}
	m.making.Lock()
	defer m.making.Unlock()
	dir := m.overlayDir(next.Overlay.ID)
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	if err := m.writeNote(&next); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := m.step(StepOverlay); err != nil {
		return err
	}
	if err := m.db.put(&next); err != nil {
		return err
	}
	*r = next
	return nil
}

// mountOverlay mounts what is recorded, or takes over what is mounted already.
func (m *Manager) mountOverlay(ctx context.Context, r *record) error {
	if err := m.checkNote(r); err != nil {
		return err
	}
	base, err := tree.Open(ctx, m.o.Blocks, r.Overlay.Base.Cid)
	if err != nil {
		return err
	}
	own, err := m.o.Own.Own(ctx, r.Overlay.Base.Cid)
	if err != nil {
		return err
	}
	if err := m.step(StepMount); err != nil {
		return err
	}
	opts, err := ParseOptions(r.Options)
	if err != nil {
		return err
	}
	o := mountOptions(r.Overlay, own)
	o.Size, o.IOTimeout = opts.Size, opts.IOTimeout
	return m.o.Mounter.Mount(ctx, base, m.overlayDir(r.Overlay.ID), o)
}

// mountOptions are those that an overlay has as long as it lives.
func mountOptions(o *overlayRecord, own bool) MountOptions {
	return MountOptions{ReadOnly: o.ReadOnly, Foreign: !own, Full: o.Full, Tmpfs: o.Tmpfs}
}

// Unmount ends a user's mount. With the last user the volume is unmounted, and unless its option says otherwise
// its changes are committed.
type Unmount struct {
	Name   string `json:"name"`
	User   string `json:"user,omitempty"`    // DefaultUser if empty
	NoWait bool   `json:"no_wait,omitempty"` // for replicas of a commit, whatever the volume's options say
}

func (op *Unmount) run(ctx context.Context, m *Manager) (Result, error) {
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	defer m.releaseLease(r)
	user := op.User
	if user == "" {
		user = DefaultUser
	}
	res, err := m.unmount(ctx, r, user)
	if err != nil {
		return Result{}, fmt.Errorf("unmount %s: %w", op.Name, err)
	}
	if res.Volume, err = m.info(ctx, r, false); err == nil && res.Created {
		res.Note = madeNote(res.Volume)
	}
	return res, err
}

func (m *Manager) unmount(ctx context.Context, r *record, user string) (Result, error) {
	if _, has := r.Users[user]; !has {
		return m.finishUnmount(ctx, r)
	}
	if len(r.Users) == 1 {
		if m.o.Mounter == nil {
			return Result{}, ErrCannotMount
		}
		if err := m.step(StepUnmount); err != nil {
			return Result{}, err
		}
		if err := m.o.Mounter.Unmount(ctx, m.overlayDir(r.Overlay.ID)); err != nil {
			return Result{}, err
		}
	}
	if err := m.step(StepUsers); err != nil {
		return Result{}, err
	}
	users := maps.Clone(r.Users)
	delete(users, user)
	r.Users = users
	if err := m.db.put(r); err != nil {
		return Result{}, err
	}
	return m.finishUnmount(ctx, r)
}

// finishUnmount does what is to be done when the last user is gone, also if a process before this one did not
// come so far.
func (m *Manager) finishUnmount(ctx context.Context, r *record) (Result, error) {
	if len(r.Users) > 0 {
		return Result{Commit: r.Head, Note: fmt.Sprintf("nothing was committed: %s is still mounted by %s", r.Name, strings.Join(r.users(), ", "))}, nil
	}
	if r.Overlay == nil {
		return Result{Commit: r.Head, Note: unchanged(r)}, nil
	}
	if m.o.Mounter == nil {
		return Result{}, ErrCannotMount
	}
	opts, err := ParseOptions(r.Options)
	if err != nil {
		return Result{}, err
	}
	if opts.Commit == CommitManually && !r.Overlay.ReadOnly && !r.Overlay.Tmpfs {
		note := "what changed is kept and not committed, as the option commit=manual says"
		return Result{Commit: r.Head, Note: note}, m.o.Mounter.Unmount(ctx, m.overlayDir(r.Overlay.ID))
	}
	return m.settle(ctx, r, "")
}

// settle commits the changes of a volume that nobody has mounted, and ends its overlay.
func (m *Manager) settle(ctx context.Context, r *record, message string) (Result, error) {
	if r.Overlay == nil {
		return Result{Commit: r.Head}, nil
	}
	if m.o.Mounter == nil {
		return Result{}, ErrCannotMount
	}
	dir := m.overlayDir(r.Overlay.ID)
	if err := m.o.Mounter.Unmount(ctx, dir); err != nil {
		return Result{}, err
	}
	if r.Overlay.Tmpfs {
		note := "what was changed in memory and not committed is gone, as the option overlay=tmpfs says"
		return Result{Commit: r.Head, Note: note}, m.retire(r)
	}
	res, err := m.commit(ctx, r, Commit{Message: message}, snapshot.Clean)
	if err != nil {
		return Result{}, err
	}
	if len(res.Unsettled) > 0 {
		return Result{}, fmt.Errorf("%w: somebody changes %q while nothing is mounted; what is not committed is kept", ErrInUse, res.Unsettled[0])
	}
	if !res.Created {
		res.Note = unchanged(r)
	}
	return res, m.retire(r)
}

// firstCommitted tells of the commit that settle made before something else was done.
func firstCommitted(settled Result) string {
	if settled.Created {
		return fmt.Sprintf("what was not committed is %s", settled.Commit)
	}
	return ""
}

// renewOverlay puts a fresh overlay on the head in the place of one whose changes are gone.
func (m *Manager) renewOverlay(r *record) error {
	o, err := ParseOptions(r.Options)
	if err != nil {
		return err
	}
	old := r.Overlay.ID
	if err := m.newOverlay(r, o, false); err != nil {
		return err
	}
	return m.db.retire(r, old)
}

func mounted(r *record) error {
	return fmt.Errorf("%s, by %s: %w\nunmount it first", r.Name, strings.Join(r.users(), ", "), ErrMounted)
}
