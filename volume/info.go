package volume

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/volary/volary/snapshot"
)

// Info is what is known of a volume.
type Info struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Head       CID               `json:"head"`
	Sequence   uint64            `json:"sequence"`
	Time       time.Time         `json:"time,omitzero"`         // of the head; where its block is here
	Author     string            `json:"author,omitempty"`      // peer ID of the host that made it
	Files      uint64            `json:"files"`                 // in it
	Bytes      uint64            `json:"bytes"`                 // of its files
	Created    time.Time         `json:"created,omitzero"`      // here
	Options    map[string]string `json:"options,omitempty"`     // that it has here
	OptionsSet map[string]string `json:"options_set,omitempty"` // of these, those that were set on this host; its commits say the others
	Tags       map[string]CID    `json:"tags,omitempty"`
	Dirty      *bool             `json:"dirty,omitempty"` // there are changes that no commit has, or the disk is too full to tell; only when asked for, and where it can be known now
	Base       CID               `json:"base,omitzero"`   // what the changes are on
	Mountpoint string            `json:"mountpoint,omitempty"`
	Users      []string          `json:"users,omitempty"`
	Removed    *time.Time        `json:"removed,omitempty"`
	Failure    *Failure          `json:"failure,omitempty"`   // the last one, if nothing went well since
	Elsewhere  bool              `json:"elsewhere,omitempty"` // other hosts have it, this one has not mounted it yet

	Following *Following `json:"following,omitempty"` // what is done here with new states

	Lease *Lease `json:"lease,omitempty"` // who writes to it, of the hosts that are connected

	Forks []Fork `json:"forks,omitempty"` // the newest first; where their blocks are here

	RemovedElsewhere bool `json:"removed_elsewhere,omitempty"` // other hosts removed it; here it stays until what was changed is committed

	Size         uint64  `json:"size,omitempty"`          // bytes that changes may take
	SizeEnforced *bool   `json:"size_enforced,omitempty"` // they cannot take more; not in lists
	Used         *uint64 `json:"used,omitempty"`          // bytes that they take; only when asked for, and while there are some
}

// info describes a volume; looking for changes takes as long as a commit.
func (m *Manager) info(ctx context.Context, r *record, withDirty bool) (*Info, error) {
	i := &Info{
		Name: r.Name, ID: r.ID, Head: r.Head, Sequence: r.Sequence, Created: r.Created, OptionsSet: r.Options, Tags: r.Tags,
		Users: r.users(), Failure: m.failure(r), RemovedElsewhere: m.removedElsewhere(ctx, r),
	}
	r = m.describeHead(ctx, i, r)
	i.Forks, i.Lease, i.Following = m.forks(ctx, r), m.lease(r), m.following(r)
	if r.Overlay != nil {
		i.Base = r.Overlay.Base
		if len(r.Users) > 0 && m.o.Mounter != nil {
			i.Mountpoint = m.o.Mounter.Path(m.overlayDir(r.Overlay.ID))
		}
	}
	if o, err := r.options(); err == nil {
		i.Size = o.Size
	}
	if !r.Removed.IsZero() {
		i.Removed = &r.Removed
	}
	unknown := m.o.Mounter == nil && r.Overlay != nil && !r.Overlay.ReadOnly
	if !withDirty || unknown {
		return i, nil
	}
	if space, err := m.space(ctx, r); err != nil {
		return i, err
	} else if space != nil {
		i.SizeEnforced, i.Used = &space.Enforced, &space.Used
	}
	dirty, err := m.dirty(ctx, r)
	if errors.Is(err, syscall.ENOSPC) {
		dirty, err = true, nil // there was something to store
	}
	if errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrUnavailable) {
		m.log.Error("look for changes", logVolume, r.Name, logError, err)
		return i, nil // all else is known
	}
	i.Dirty = &dirty
	return i, err
}

// describeHead says what the head says of itself, if it is here: nothing is waited for. It returns the volume with the
// options that it says.
func (m *Manager) describeHead(ctx context.Context, i *Info, r *record) *record {
	at := *r
	if c, err := m.commitHere(ctx, i.Head.Cid); err == nil {
		i.Time, i.Author, i.Files, i.Bytes = c.Time, c.Author, c.Stats.Files, c.Stats.Bytes
		at.hears(c) // what is wrong is logged when it is taken over
	}
	i.Options = at.given()
	return &at
}

// ListOptions say what List is to tell.
type ListOptions struct {
	Trash bool // volumes that were removed and can be taken back, as well
	Dirty bool // whether there are changes that no commit has: what was changed and changed back counts
	Known bool // what is known now: nobody else is asked
}

// List returns all volumes by name.
func (m *Manager) List(ctx context.Context, o ListOptions) ([]Info, error) {
	if !o.Known {
		if err := m.Hear(ctx); err != nil && ctx.Err() == nil {
			return nil, err // when the time is over, what is recorded has to do
		}
	}
	rs, err := m.db.list(bucketVolumes)
	if err == nil && o.Trash {
		var removed []*record
		removed, err = m.db.list(bucketTrash)
		rs = append(rs, removed...)
	}
	if err != nil {
		return nil, err
	}
	all, err := m.allTold(ctx)
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(rs)+len(all))
	for _, r := range rs {
		if at, ok := all[r.ID]; ok {
			r.last = &at
		}
		i, err := m.info(ctx, m.newestHere(ctx, r), false)
		if err != nil {
			return nil, err
		}
		if o.Dirty && r.Removed.IsZero() {
			if i.Dirty, err = m.changed(ctx, r); err != nil {
				m.log.Error("look for changes", logVolume, r.Name, logError, err)
			}
		}
		infos = append(infos, *i)
	}
	return m.withElsewhere(ctx, infos, all), nil
}

// allTold is where volumes are that are not removed, by their IDs: asking once costs less than once for each.
func (m *Manager) allTold(ctx context.Context) (map[string]At, error) {
	if m.o.Heads == nil {
		return nil, nil
	}
	list, err := m.o.Heads.All(ctx)
	all := make(map[string]At, len(list))
	for _, at := range list {
		all[at.ID] = at
	}
	return all, err
}

// withElsewhere adds the volumes that only other hosts have.
func (m *Manager) withElsewhere(ctx context.Context, infos []Info, all map[string]At) []Info {
	if m.o.Heads == nil {
		return infos
	}
	here := map[string]bool{}
	for _, i := range infos {
		here[i.ID] = i.Removed == nil
	}
	for id, at := range all {
		if !here[id] {
			r := m.recordOf(at)
			r.last = &at
			infos = append(infos, *m.elsewhere(ctx, r))
		}
	}
	slices.SortStableFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

func (m *Manager) elsewhere(ctx context.Context, r *record) *Info {
	i := &Info{Name: r.Name, ID: r.ID, Head: r.Head, Sequence: r.Sequence, Elsewhere: true}
	m.describeHead(ctx, i, r)
	i.Forks, i.Lease = m.forks(ctx, r), m.lease(r)
	return i
}

// Inspect says all that is known of a volume, whether it has changes that are not committed among it.
func (m *Manager) Inspect(ctx context.Context, name string) (*Info, error) {
	m.refresh(ctx)
	if err := m.hear(ctx, name); err != nil {
		return nil, err
	}
	unlock, err := m.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, elsewhere, err := m.look(ctx, name)
	if err != nil {
		return nil, err
	}
	if elsewhere {
		return m.elsewhere(ctx, r), nil
	}
	return m.info(ctx, m.newestHere(ctx, r), true)
}

// Describe says what is known of a volume at once: nobody else is asked, nothing is read, and nobody waited for. Whether
// there are changes is told where the stamps of files tell.
func (m *Manager) Describe(ctx context.Context, name string) (*Info, error) {
	r, err := m.db.get(name)
	if errors.Is(err, ErrNotFound) && m.o.Heads != nil {
		at, err := m.o.Heads.Find(ctx, name)
		if err != nil {
			return nil, err
		}
		return m.elsewhere(ctx, m.recordOf(at)), nil
	}
	if err != nil {
		return nil, err
	}
	i, err := m.info(ctx, m.newestHere(ctx, r), false)
	if err != nil {
		return nil, err
	}
	if i.SizeEnforced, err = m.enforces(r, i); err != nil {
		return nil, err
	}
	i.Dirty, err = m.changedSince(ctx, r)
	return i, err
}
