package volume

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
)

// keptStates is what is known of the states that are kept because a volume is followed.
type keptStates struct {
	some     bool   // there may be pins of them
	complete int    // of those that are wanted
	lacks    string // what went wrong with the others
	done     string // what was wanted when all was done
}

// findKept notes of which volumes states are kept, whatever is recorded of them.
func (m *Manager) findKept(ctx context.Context) error {
	for p, err := range m.o.Pins.All(ctx) {
		if err != nil {
			return err
		}
		if id, is := strings.CutPrefix(p.Owner, FollowOwner); is {
			m.mu.Lock()
			m.kept[id] = keptStates{some: true}
			m.mu.Unlock()
		}
	}
	return nil
}

func (m *Manager) keepsSome(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[id].some
}

// keepingSome are the IDs of volumes of which states may be kept.
func (m *Manager) keepingSome() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, k := range m.kept {
		if k.some {
			ids = append(ids, id)
		}
	}
	return ids
}

// keepNone lets go of what is kept of a volume that is gone for good.
func (m *Manager) keepNone(ctx context.Context, id string) {
	r, err := m.db.ofID(id)
	if err != nil || r != nil {
		return
	}
	if there, err := m.db.inTrash(id); there || err != nil {
		return
	}
	if _, err := m.letGoOf(ctx, &record{ID: id}, nil); err != nil {
		m.log.Warn("states of a volume that is gone are kept", logVolume, id, logError, err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, id)
}

func followOwner(r *record) string { return FollowOwner + r.ID }

// wantedState is one that is to be kept, or is.
type wantedState struct {
	root     cid.Cid
	sequence uint64
	wanted   int  // the place among those that are, from the newest on; noPlace of one that is not
	whole    bool // all of it was here
}

const noPlace = 1 << 30

// keepLast keeps what is to be kept of a volume: the last states, and what a mount shows. Older ones are let go of once
// as many newer ones are complete. What cannot be had is tried again.
func (m *Manager) keepLast(ctx context.Context, name string) {
	r, err := m.db.get(name)
	if err != nil {
		return
	}
	wanted, err := m.wantedStates(ctx, r)
	done := fmt.Sprint(r.KeepLast, wanted)
	m.mu.Lock()
	before := m.kept[r.ID]
	m.mu.Unlock()
	if err == nil && before.done == done {
		return
	}
	for _, w := range wanted {
		if ctx.Err() != nil {
			return
		}
		if keepErr := m.keepState(ctx, r, w); keepErr != nil && err == nil {
			err = fmt.Errorf("state %d: %w", w.sequence, keepErr)
		}
	}
	have, letErr := m.letGoNow(ctx, name, wanted)
	if err = cmp.Or(err, letErr); ctx.Err() != nil {
		return
	}
	k := keptStates{some: have > 0}
	if err == nil {
		k.done = done
	}
	for _, w := range wanted {
		if _, whole, err := m.isKept(ctx, r, w.root); err == nil && whole && w.wanted < r.KeepLast {
			k.complete++
		}
	}
	if err != nil {
		k.lacks = err.Error()
	}
	m.mu.Lock()
	m.kept[r.ID] = k
	m.mu.Unlock()
	if k.lacks != "" && k.lacks != before.lacks {
		m.log.Warn("a state that is followed is not all here yet", logVolume, r.Name, logError, err)
	}
}

// wantedStates are the last ones, and what a mount shows, the newest first.
func (m *Manager) wantedStates(ctx context.Context, r *record) (all []wantedState, _ error) {
	shown := m.shownStates(r)
	add := func(c cid.Cid, sequence uint64, place int) {
		all = append(all, wantedState{root: c, sequence: sequence, wanted: place})
	}
	var failed error
	if r.KeepLast > 0 {
		next, err := m.newestToShow(ctx, r)
		if err != nil {
			return nil, err
		}
		for a, err := range m.history(ctx, next.Head.Cid) {
			if err != nil {
				failed = err
				break
			}
			if add(a.CID, a.Sequence, len(all)); len(all) == r.KeepLast {
				break
			}
		}
	}
	for _, c := range shown {
		if slices.ContainsFunc(all, func(w wantedState) bool { return w.root == c }) {
			continue
		}
		commit, err := m.commitHere(ctx, c)
		if err != nil {
			commit = &snapshot.Commit{}
		}
		add(c, commit.Sequence, noPlace)
	}
	return all, failed
}

// pinWhole is in the meta of a pin of a state of which all was here.
const pinWhole = "whole"

// isKept reports whether a state is pinned because it is followed, and whether all of it is here.
func (m *Manager) isKept(ctx context.Context, r *record, root cid.Cid) (pinned, whole bool, _ error) {
	status, err := m.o.Pins.Status(ctx, root)
	p, pinned := status.Of(followOwner(r))
	return pinned, p.Meta[pinWhole] != "", err
}

// keepShown pins a state that is only shown, as far as it is here. Where a pin gets all, that is for later.
func (m *Manager) keepShown(ctx context.Context, r *record) error {
	if m.o.Hydrate == nil {
		return nil
	}
	return m.keepState(ctx, r, wantedState{root: r.Head.Cid, sequence: r.Sequence, wanted: noPlace})
}

// keepState pins a state; one of the last ones once all of it was got.
func (m *Manager) keepState(ctx context.Context, r *record, w wantedState) error {
	pinned, is, err := m.isKept(ctx, r, w.root)
	whole := w.wanted < r.KeepLast || m.o.Hydrate == nil
	if err != nil || is || pinned && !whole {
		return err
	}
	s, err := m.o.Begin(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if whole && m.o.Hydrate != nil {
		if err := m.o.Hydrate(ctx, s, w.root); err != nil {
			return err
		}
	}
	p := pinset.Pin{Root: w.root, Owner: followOwner(r), Created: m.o.Now().UTC(), Name: fmt.Sprintf("%s@%d", r.Name, w.sequence),
		Meta: map[string]string{PinVolume: r.ID, PinSequence: fmt.Sprint(w.sequence)}}
	if whole {
		p.Meta[pinWhole] = "true"
	}
	return m.o.Pins.Add(ctx, p)
}

// letGoNow is letGoOf of a volume as it is recorded by now.
func (m *Manager) letGoNow(ctx context.Context, name string, wanted []wantedState) (have int, _ error) {
	r, err := m.db.get(name)
	if err != nil {
		return 0, err
	}
	return m.letGoOf(ctx, r, wanted)
}

// letGoOf lets go of what is kept too much, and returns how many states are kept then.
func (m *Manager) letGoOf(ctx context.Context, r *record, wanted []wantedState) (have int, _ error) {
	var kept []wantedState
	for p, err := range m.o.Pins.All(ctx) {
		if err != nil {
			return 0, err
		}
		if p.Owner != followOwner(r) {
			continue
		}
		n, err := strconv.ParseUint(p.Meta[PinSequence], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("pin of %s: %w", p.Root, err)
		}
		w := wantedState{root: p.Root, sequence: n, wanted: noPlace, whole: p.Meta[pinWhole] != ""}
		if i := slices.IndexFunc(wanted, func(x wantedState) bool { return x.root == p.Root }); i >= 0 {
			w.wanted = wanted[i].wanted
		}
		kept = append(kept, w)
	}
	shown := m.shownStates(r)
	slices.SortFunc(kept, func(a, b wantedState) int {
		return cmp.Or(cmp.Compare(a.wanted, b.wanted), cmp.Compare(b.sequence, a.sequence))
	})
	whole := 0
	for _, k := range kept {
		stays := k.wanted < r.KeepLast || slices.Contains(shown, k.root)
		if k.whole && whole < r.KeepLast {
			whole, stays = whole+1, true
		}
		if stays {
			have++
			continue
		}
		if err := m.step(StepLetGo); err != nil {
			return have, err
		}
		if err := m.o.Pins.Remove(ctx, k.root, followOwner(r)); err != nil {
			return have, err
		}
	}
	return have, nil
}
