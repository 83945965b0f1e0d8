package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"time"

	"github.com/volary/volary/snapshot"
)

// DirUser begins the user of a mount at a directory of the host, which only root may ask for: the rest is its path.
const DirUser = "dir:"

// ContainerUser begins the user of a mount for a container; the rest is what its engine calls the mount. After a boot of
// the machine there are none: engines mount again what they start again.
const ContainerUser = "docker:"

// DefaultUser is who mounts a volume when nobody is named.
const DefaultUser = "cli"

// Mount makes a volume visible as a directory. Mounting for a user who has it mounted is no change. One that fails, or that
// nobody waits for any more, leaves the user as he was.
type Mount struct {
	Name     string `json:"name"`
	User     string `json:"user,omitempty"` // DefaultUser if empty
	ReadOnly bool   `json:"read_only,omitempty"`
	Follow   bool   `json:"follow,omitempty"` // read-only, and each new state of the volume is shown
	Steal    bool   `json:"steal,omitempty"`  // take it over from another host that writes to it

	// By is who asks for the user, if he ends it as often as he asks: see [Manager.Leave]. What another one asked for
	// before, for the same user, he does not count.
	By string `json:"-"`
}

func (op *Mount) run(ctx context.Context, m *Manager) (Result, error) {
	if op.By != "" {
		defer m.mountsFor(op.By)()
	}
	m.refresh(ctx)
	readOnly := op.ReadOnly || op.Follow
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if err := m.mayChange(r); err != nil && !readOnly {
		return Result{}, fmt.Errorf("mount %s: %w\nmount it with --read-only", op.Name, err)
	}
	if m.o.Mounter == nil {
		return Result{}, fmt.Errorf("mount %s: %w", op.Name, ErrCannotMount)
	}
	if err := m.acquireLease(ctx, r, readOnly, op.Steal); err != nil {
		return Result{}, fmt.Errorf("mount %s: %w", op.Name, err)
	}
	defer m.releaseLease(r)
	if err := m.endContainers(r); err != nil {
		return Result{}, fmt.Errorf("mount %s: %w", op.Name, err)
	}
	was := r.Head
	if err := m.dropUnused(ctx, r); err != nil {
		return Result{}, fmt.Errorf("mount %s: %w", op.Name, err)
	}
	if err := m.catchUp(ctx, r); err != nil {
		return Result{}, fmt.Errorf("mount %s at its newest state: %w", op.Name, err)
	}
	if r.Overlay == nil {
		if err := m.hearOptionsOf(ctx, m.o.Blocks, r); err != nil {
			return Result{}, fmt.Errorf("mount %s: %w", op.Name, err)
		}
	}
	user := op.User
	if user == "" {
		user = DefaultUser
	}
	undo, err := m.mount(ctx, r, user, op.By, overlayRecord{ReadOnly: readOnly, Follow: op.Follow})
	if err != nil {
		return Result{}, fmt.Errorf("mount %s: %w", op.Name, err)
	}
	res, err := m.result(ctx, r)
	if err = cmp.Or(err, ctx.Err()); err != nil {
		undo()
		return Result{}, fmt.Errorf("mount %s: %w", op.Name, err)
	}
	m.doubt(r)
	res.Path = m.o.Mounter.Path(m.overlayDir(r.Overlay.ID))
	res.Note = leftNote(res.Volume, was)
	return res, nil
}

// mount mounts a volume for a user in a way: read-only or not, to be followed or not. What it returns
// makes it not done for him.
func (m *Manager) mount(ctx context.Context, r *record, user, by string, way overlayRecord) (undo func(), _ error) {
	opts, err := r.options()
	if err != nil {
		return nil, err
	}
	way.ReadOnly, way.Follow = way.ReadOnly || opts.ReadOnly, way.Follow || opts.Follow
	if _, can := m.o.Mounter.(Follower); way.Follow && !can {
		return nil, ErrCannotMount
	}
	if _, here := r.Options["lower"]; way.Follow && !here {
		opts.Lower = LowerLazy // whatever other hosts say
	}
	if way.Follow && opts.Lower == LowerFull {
		return nil, fmt.Errorf("a volume with the option lower=full is copied when it is mounted, and cannot be followed: %w", ErrInvalid)
	}
	other := r.Overlay != nil && (r.Overlay.ReadOnly != way.ReadOnly || r.Overlay.Follow != way.Follow)
	if len(r.Users) > 0 && other {
		return nil, fmt.Errorf("%w the other way, read-only or not, following or not, by %s", ErrMounted, strings.Join(r.users(), ", "))
	}
	if other {
		if _, err := m.settle(ctx, r, "before it was mounted otherwise"); err != nil {
			return nil, err
		}
	}
	fresh := r.Overlay == nil
	if fresh {
		if err := m.newOverlay(r, opts, way); err != nil {
			return nil, err
		}
	}
	if err := m.mountOverlay(ctx, r); err != nil {
		if r.unused() && (!r.Overlay.Full || errors.Is(err, syscall.ENOSPC)) {
			m.giveUp(context.WithoutCancel(ctx), r)
		}
		return nil, err
	}
	m.wentWell(r, FailedStart)
	m.wentWell(r, FailedUnmount)
	if fresh {
		m.looked(r.Overlay, time.Now(), false)
	}
	if _, has := r.Users[user]; !has {
		m.watchSize(ctx, r, opts, true)
	}
	if err := m.step(StepUsers); err != nil {
		return nil, err
	}
	if isContainer(user) {
		r.ContainersBoot = m.o.Boot
	}
	were, added, err := m.db.addUser(r, user, by, m.o.Now().UTC())
	if err != nil || !added {
		return func() {}, err
	}
	if way.Follow {
		m.follow()
	}
	return func() { m.takeBack(r, user, by, were) }, nil
}

// Unmount ends a user's mount. With the last user the volume is unmounted, and unless its option says otherwise
// its changes are committed.
type Unmount struct {
	Name   string `json:"name"`
	User   string `json:"user,omitempty"`    // DefaultUser if empty
	NoWait bool   `json:"no_wait,omitempty"` // for replicas of a commit, whatever the volume's options say
	// Gone is for users who are gone, as Leave recorded: nobody else's mount is ended, and what fails is tried again later.
	Gone bool `json:"gone,omitempty"`
	// Containers is for all mounts of containers in place of User's: none of them is ended while anybody uses the volume.
	Containers bool `json:"containers,omitempty"`
}

// users are those of a volume whose mounts are to be ended.
func (op *Unmount) users(r *record) (users []string) {
	user := cmp.Or(op.User, DefaultUser)
	for u := range r.Users {
		if op.Containers && isContainer(u) || !op.Containers && u == user {
			users = append(users, u)
		}
	}
	return users
}

func (op *Unmount) run(ctx context.Context, m *Manager) (Result, error) {
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		if op.Gone && !errors.Is(err, ErrNotFound) {
			m.tryLater(op.Name)
		}
		return Result{}, err
	}
	defer unlock()
	defer m.releaseLease(r)
	users := op.users(r)
	m.endLease(r, len(r.Users) == 0 || len(users) == len(r.Users) && !op.Gone)
	var res Result
	switch {
	case op.Gone:
		res, err = m.unmountGone(ctx, r)
	case op.Containers && len(users) < len(r.Users):
		err = mounted(r)
	default:
		res, err = m.unmount(ctx, r, users)
	}
	if err != nil {
		m.endLease(r, len(r.Users) == 0)
		return Result{}, fmt.Errorf("unmount %s: %w", op.Name, err)
	}
	if res.Volume, err = m.info(ctx, r, false); err == nil && res.Created {
		res.Note = madeNote(res.Volume)
	}
	return res, err
}

func (m *Manager) unmount(ctx context.Context, r *record, users []string) (Result, error) {
	if len(users) == 0 {
		return m.finishUnmount(ctx, r)
	}
	if len(users) == len(r.Users) {
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
	if err := m.endUser(r, users...); err != nil {
		return Result{}, err
	}
	return m.finishUnmount(ctx, r)
}

// unmountGone does what is left to do for users who do not ask again; what fails of it is done later.
func (m *Manager) unmountGone(ctx context.Context, r *record) (Result, error) {
	res, err := m.finishUnmount(ctx, r)
	if err != nil {
		m.unmountLater(r, err)
		return res, err
	}
	m.wentWell(r, FailedUnmount)
	return res, nil
}

// unmountLater has that done again which failed for users who do not ask again.
func (m *Manager) unmountLater(r *record, err error) {
	m.failed(r, FailedUnmount, err)
	m.tryLater(r.Name)
}

// endUser records that users do not have the volume mounted any more.
func (m *Manager) endUser(r *record, users ...string) error {
	if err := m.step(StepUsers); err != nil {
		return err
	}
	next := *r
	next.Users = maps.Clone(r.Users)
	for _, user := range users {
		delete(next.Users, user)
	}
	if err := m.db.put(&next); err != nil {
		return err
	}
	*r = next
	return nil
}

// finishUnmount does what is to be done when the last user is gone, also if a process before this one did not
// come so far.
func (m *Manager) finishUnmount(ctx context.Context, r *record) (Result, error) {
	if len(r.Users) > 0 {
		return Result{Commit: r.Head, Note: fmt.Sprintf("nothing was committed: %s is still mounted by %s", r.Name, strings.Join(r.users(), ", "))}, nil
	}
	m.forgetShown(r)
	m.wentWell(r, FailedFollow)
	if r.Overlay == nil {
		return Result{Commit: r.Head, Note: unchanged(r)}, nil
	}
	if m.o.Mounter == nil {
		return Result{}, ErrCannotMount
	}
	if r.unused() && r.Overlay.Full {
		return Result{Commit: r.Head, Note: unchanged(r)}, nil // what was copied is gone on with by the next mount
	}
	opts, err := r.options()
	if err != nil {
		return Result{}, err
	}
	if opts.Commit == CommitManually && !r.Overlay.ReadOnly && !r.Overlay.Tmpfs {
		note := "what changed is kept and not committed, as the option commit=manual says"
		return Result{Commit: r.Head, Note: note}, m.o.Mounter.Unmount(ctx, m.overlayDir(r.Overlay.ID))
	}
	followed := r.Overlay.Follow
	res, err := m.settle(ctx, r, "")
	if err == nil && followed {
		m.adopted(r) // it is recorded at what was shown last, which other hosts may have made
	}
	return res, err
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
