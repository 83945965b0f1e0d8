package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/tree"
)

const (
	followTime = 30 * time.Second // that the roots of a state are waited for
	followFew  = 8                // volumes at a time
)

// follows is what is done when a volume has a new state.
type follows struct {
	shows, hooks, keeps *latest
	names               map[string]string  // of the volumes here, by ID
	told                map[string]cid.Cid // the head that a hook was run for last, or need not be, by ID
}

// followHeads does, whenever a volume has a new head, what is to be done then, until ctx is done: mounts that follow it
// show it, its hook is run, and it is kept where it is to be.
func (m *Manager) followHeads(ctx context.Context) {
	if m.o.Heads == nil {
		return
	}
	f := &follows{shows: newLatest(followFew), hooks: newLatest(followFew), keeps: newLatest(2), told: map[string]cid.Cid{}}
	defer f.keeps.work.Wait()
	defer f.hooks.work.Wait()
	defer f.shows.work.Wait()
	all, err := m.o.Heads.All(ctx)
	if err != nil {
		m.log.Error("which heads are known", logError, err)
	}
	for _, at := range all {
		f.told[at.ID] = at.Head
	}
	if err := m.findKept(ctx); err != nil {
		m.log.Error("which states are kept because they are followed", logError, err)
	}
	news := make(chan News)
	f.shows.work.Go(func() { m.sendNews(ctx, news) })
	tick := time.NewTicker(m.o.Again)
	defer tick.Stop()
	m.followAll(ctx, f)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.followAll(ctx, f)
		case <-m.followed:
			m.followAll(ctx, f)
		case n := <-news:
			m.followNews(ctx, f, n)
		}
	}
}

// sendNews sends what happens to volumes.
func (m *Manager) sendNews(ctx context.Context, news chan<- News) {
	for ctx.Err() == nil {
		for n, err := range m.o.Heads.Watch(ctx, true) {
			if err != nil {
				if ctx.Err() == nil {
					m.log.Error("what happens to volumes", logError, err)
				}
				break
			}
			select {
			case news <- n:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// followAll looks at every volume here.
func (m *Manager) followAll(ctx context.Context, f *follows) {
	rs, err := m.db.list(bucketVolumes)
	if err != nil {
		m.log.Error("cannot look which volumes are followed", logError, err)
		return
	}
	f.names = map[string]string{}
	for _, r := range rs {
		f.names[r.ID] = r.Name
		if r.follows() {
			f.shows.do(r.ID, func() { m.showAgain(ctx, r.Name) })
		}
		if r.follows() || r.KeepLast > 0 || m.keepsSome(r.ID) {
			f.keeps.do(r.ID, func() { m.keepLast(ctx, r.Name) })
		}
	}
	for _, id := range m.keepingSome() {
		if _, here := f.names[id]; !here {
			f.keeps.do(id, func() { m.keepNone(ctx, id) })
		}
	}
}

// followNews does what is to be done for one volume.
func (m *Manager) followNews(ctx context.Context, f *follows, n News) {
	if n.Fork || n.Removed || f.told[n.ID] == n.Head.Cid {
		return
	}
	f.told[n.ID] = n.Head.Cid
	name, here := f.names[n.ID]
	if !here {
		name = n.Name
	}
	r, err := m.db.get(name)
	if other := errors.Is(err, ErrNotFound) || err == nil && r.ID != n.ID; other && here {
		r, err = m.db.ofID(n.ID) // it has another name by now
	} else if other {
		return
	}
	if err != nil {
		m.log.Error("follow a volume", logVolume, name, logError, err)
		return
	}
	if r == nil {
		return
	}
	name = r.Name
	if r.follows() {
		f.shows.do(n.ID, func() { m.showAgain(ctx, name) })
	}
	if o, err := r.options(); err == nil && o.ExecHead != "" {
		f.hooks.do(n.ID, func() {
			if r, err := m.db.ofID(n.ID); err == nil && r != nil { // perhaps by another name than before
				m.showAgain(ctx, r.Name) // so that the command finds it mounted
				m.runHeadHook(ctx, r.Name, n)
			}
		})
	}
	if r.follows() || r.KeepLast > 0 {
		f.keeps.do(n.ID, func() { m.keepLast(ctx, name) })
	}
}

// follows reports whether the volume is mounted so that it shows each new state.
func (r *record) follows() bool { return r.Overlay != nil && r.Overlay.Follow && len(r.Users) > 0 }

// showAgain is show, with what goes wrong for people to be seen.
func (m *Manager) showAgain(ctx context.Context, name string) {
	ctx, done := context.WithTimeout(ctx, followTime)
	defer done()
	r, err := m.db.get(name)
	if err != nil || !r.follows() {
		return
	}
	if err = m.show(ctx, r); err == nil {
		m.wentWell(r, FailedFollow)
		return
	}
	if context.Cause(ctx) == context.Canceled {
		return
	}
	if was := m.failure(r); was == nil || was.What != FailedFollow || was.Error != err.Error() {
		m.log.Error("the newest state is not shown", logVolume, name, logError, err)
	}
	m.failed(r, FailedFollow, err)
}

// show has a mount that follows its volume show the newest state. Its roots are got before anybody waits for it.
func (m *Manager) show(ctx context.Context, r *record) error {
	follower, ok := m.o.Mounter.(Follower)
	if !ok {
		return ErrCannotMount
	}
	next, err := m.newestToShow(ctx, r)
	if err != nil {
		return err
	}
	is := next.Head == r.Overlay.Base
	if is && m.onlyShown(r) {
		return nil // and nothing else is in use
	}
	s, err := m.rootsOf(ctx, next.Head.Cid, !is)
	if err != nil {
		return err
	}
	unlock, err := m.lock(ctx, r.Name)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := m.db.get(r.Name)
	if err != nil || now.ID != r.ID || !now.follows() || now.Overlay.ID != r.Overlay.ID || now.Head != r.Head {
		return err // the next time
	}
	if err := m.keepShown(ctx, next); err != nil {
		return err
	}
	shown, err := follower.Follow(ctx, s, m.overlayDir(r.Overlay.ID))
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.shown[r.ID] = shown
	m.mu.Unlock()
	if now.Overlay.Base == next.Head && now.Head == next.Head {
		return nil
	}
	overlay := *now.Overlay
	overlay.Base = next.Head
	now.Head, now.Sequence, now.Overlay = next.Head, next.Sequence, &overlay
	m.hearOptions(now, s.Commit)
	if err := m.step(StepShown); err != nil {
		return err
	}
	return m.db.put(now)
}

// rootsOf opens a snapshot, and gets what it takes to list its root.
func (m *Manager) rootsOf(ctx context.Context, c cid.Cid, listed bool) (*tree.Snapshot, error) {
	s, err := tree.Open(ctx, m.o.Blocks, c)
	if err != nil || !listed {
		return s, err
	}
	for _, err := range s.Stored(ctx, s.Root()) {
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// onlyShown reports whether it is known that nothing of a mount is in use but what it shows.
func (m *Manager) onlyShown(r *record) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	shown := m.shown[r.ID]
	return len(shown) == 1 && shown[0] == r.Overlay.Base.Cid
}

// newestToShow is newest of a volume that is mounted to be followed.
func (m *Manager) newestToShow(ctx context.Context, r *record) (*record, error) {
	bare := *r
	bare.Overlay = nil
	return m.newest(ctx, &bare)
}

// FollowOwner begins the owner of the pins of what is kept of a volume because it is followed; its ID follows.
const FollowOwner = "follow/"

// Following is what is done on this host with new states of a volume.
type Following struct {
	Shown CID    `json:"shown,omitzero"`     // by a mount that follows it
	InUse []CID  `json:"in_use,omitempty"`   // that it showed before, of which files are open
	Last  int    `json:"keep_last,omitzero"` // so many states are kept here
	Kept  int    `json:"kept,omitzero"`      // so many of them are
	Lacks string `json:"lacks,omitempty"`    // why not all are
}

// following says what is done with a volume's states; nil if nothing is.
func (m *Manager) following(r *record) *Following {
	f := Following{Last: r.KeepLast}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.follows() {
		f.Shown = r.Overlay.Base
		if shown := m.shown[r.ID]; len(shown) > 0 {
			f.Shown = CID{shown[0]}
			for _, c := range shown[1:] {
				f.InUse = append(f.InUse, CID{c})
			}
		}
	}
	if k := m.kept[r.ID]; r.KeepLast > 0 {
		f.Kept, f.Lacks = k.complete, k.lacks
	}
	if !r.follows() && r.KeepLast == 0 {
		return nil
	}
	return &f
}

// runHeadHook runs the command that a volume's options have for a new head.
func (m *Manager) runHeadHook(ctx context.Context, name string, n News) {
	r, err := m.db.get(name)
	if err != nil || r.ID != n.ID {
		return
	}
	o, err := r.options()
	if err != nil || o.ExecHead == "" {
		return
	}
	env := []string{"VOLARY_VOLUME=" + r.Name, "VOLARY_HEAD=" + n.Head.String(), fmt.Sprint("VOLARY_SEQUENCE=", n.Sequence)}
	if r.Overlay != nil && len(r.Users) > 0 && m.o.Mounter != nil {
		env = append(env, "VOLARY_MOUNTPOINT="+m.o.Mounter.Path(m.overlayDir(r.Overlay.ID)))
	}
	err = o.Hooks.exec(ctx, o.ExecHead, env)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		m.log.Error("hook on a new head", logVolume, r.Name, logError, err)
		m.failed(r, FailedHook, err)
	default:
		m.wentWell(r, FailedHook)
	}
}

// Follow has this host keep the last states of a volume whole, whoever makes them, or no longer.
type Follow struct {
	Name string `json:"name"`
	Last int    `json:"last"` // so many; 0: none
}

// MostFollowed is the most states that can be kept because a volume is followed.
const MostFollowed = 1000

func (op *Follow) run(ctx context.Context, m *Manager) (Result, error) {
	if op.Last < 0 || op.Last > MostFollowed {
		return Result{}, fmt.Errorf("follow %s: %d states: %w\ngive a number from 1 to %d", op.Name, op.Last, ErrInvalid, MostFollowed)
	}
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if r.KeepLast = op.Last; op.Last == 0 {
		m.mu.Lock()
		m.kept[r.ID] = keptStates{some: true} // until it is known that none are
		m.mu.Unlock()
	}
	if err := m.step(StepLast); err != nil {
		return Result{}, err
	}
	if err := m.db.put(r); err != nil {
		return Result{}, err
	}
	m.follow()
	return m.result(ctx, r)
}

// follow has it looked now what is to be shown and kept.
func (m *Manager) follow() {
	select {
	case m.followed <- struct{}{}:
	default:
	}
}

// forgetShown is called when a volume is not mounted any more.
func (m *Manager) forgetShown(r *record) {
	followed := r.Overlay != nil && r.Overlay.Follow
	m.mu.Lock()
	if delete(m.shown, r.ID); followed {
		k := m.kept[r.ID]
		k.some, k.done = true, ""
		m.kept[r.ID] = k
	}
	m.mu.Unlock()
	if followed {
		m.follow()
	}
}

// shownStates are the states that can be read through a mount that follows.
func (m *Manager) shownStates(r *record) []cid.Cid {
	if !r.follows() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if shown := m.shown[r.ID]; len(shown) > 0 {
		return shown
	}
	return []cid.Cid{r.Overlay.Base.Cid}
}
