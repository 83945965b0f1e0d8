// Package rotation moves a host's volumes over to a namespace with another secret, which takes the place of the one that
// they were of: whoever knows only that one can then neither read what is new nor say anything that counts.
//
// Start with [Prepare], which changes nothing of what is there, and [Apply], which does. Both can be done again after
// they were interrupted; Apply is given what Prepare returned.
//
// It guarantees: a volume has the same successor on every host that knows it; equal states have equal successors,
// whoever makes them and whenever; each comes after the state that it is the successor of, or ends what that ended, so
// that histories stay.
package rotation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/publish"
)

// Options of a rotation. All are required, but Apply needs no tables.
type Options struct {
	To      *namespace.Namespace
	Volumes *volume.Manager
	Begin   func(ctx context.Context) (volume.Session, error)
	Pins    pinset.Set // of this host
	Own     volume.Origins
	Before  *table.Table // of the namespace before
	Table   *table.Table // of To: an empty one
}

// Moved is a volume that goes over. Its JSON is kept in state directories.
type Moved struct {
	Name      string     `json:"name"`
	From      string     `json:"from"` // IPNS name
	Key       volume.Key `json:"key"`
	Head      volume.CID `json:"head,omitzero"` // the state that it is at on this host; none if that is not here
	Sequence  uint64     `json:"sequence,omitempty"`
	Removed   bool       `json:"removed,omitempty"`
	Elsewhere bool       `json:"elsewhere,omitempty"` // its newest state is not kept here: it goes over where it is
}

// Message is that of the commits that are made.
const Message = "the secret of the namespace was changed"

// owned is what is pinned for a volume.
type owned struct{ owner, id string }

func ownedBy(owner string) (owned, bool) {
	for _, kind := range []string{volume.PinOwner, publish.EndOwner, volume.FollowOwner} {
		if id, is := strings.CutPrefix(owner, kind); is {
			return owned{kind, id}, true
		}
	}
	return owned{}, false
}

// mover is a Prepare under way.
type mover struct {
	Options
	s    volume.Session
	pins map[owned]map[cid.Cid]pinset.Pin
}

// Prepare makes and pins the successors of the states that are kept on this host, and fills the table of the namespace.
// States that are only known of are left to the hosts that keep them.
func Prepare(ctx context.Context, o Options) (all []Moved, err error) {
	m := mover{Options: o, pins: map[owned]map[cid.Cid]pinset.Pin{}}
	for p, err := range o.Pins.All(ctx) {
		if err != nil {
			return nil, err
		}
		if of, is := ownedBy(p.Owner); is {
			if m.pins[of] == nil {
				m.pins[of] = map[cid.Cid]pinset.Pin{}
			}
			m.pins[of][p.Root] = p
		}
	}
	known, err := m.known()
	if err != nil {
		return nil, err
	}
	if m.s, err = o.Begin(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.s.Close()) }()
	for _, id := range slices.Sorted(maps.Keys(known)) {
		moved, err := m.move(ctx, known[id])
		if err != nil {
			return nil, fmt.Errorf("volume %q: %w", known[id].name(), err)
		}
		all = append(all, moved)
	}
	return all, nil
}

// before is what is known of a volume.
type before struct {
	table.Volume
	here *volume.At // nil: not recorded
}

func (b before) name() string {
	if b.Binding.Data == nil {
		return b.here.Name
	}
	return b.Binding.Name
}

func (b before) removed() bool {
	if b.Binding.Data == nil {
		return b.here.Removed
	}
	return b.Removed()
}

func (m *mover) known() (map[string]before, error) {
	vs, err := m.Before.Volumes()
	if err != nil {
		return nil, err
	}
	all := map[string]before{}
	for _, v := range vs {
		if v.Binding.Data != nil {
			all[v.Key.String()] = before{Volume: v}
		}
	}
	recorded, err := m.Volumes.Recorded()
	for _, at := range recorded {
		b, is := all[at.ID]
		if !is {
			if b.Key, err = namespace.ParseName(at.ID); err != nil {
				return nil, err
			}
		}
		b.here = &at
		all[at.ID] = b
	}
	return all, err
}

func (m *mover) move(ctx context.Context, b before) (Moved, error) {
	key, err := m.To.SuccessorKey(b.Key)
	if err != nil {
		return Moved{}, err
	}
	id, sealed, err := m.To.Seal(key)
	if err != nil {
		return Moved{}, err
	}
	moved := Moved{Name: b.name(), From: b.Key.String(), Key: volume.Key{Volume: id.String(), Sealed: sealed}, Removed: b.removed()}
	binding, err := m.bind(b, key)
	if err != nil {
		return moved, err
	}
	news := table.News{Bindings: []namespace.Binding{binding}, Own: true}
	states, at, err := m.states(ctx, b)
	if err != nil {
		return moved, err
	}
	for _, state := range states {
		h, err := m.succeed(ctx, b, state, id, key)
		if err != nil {
			return moved, err
		}
		news.Heads = append(news.Heads, h)
		if state == at {
			moved.Head, moved.Sequence = volume.CID{Cid: h.Commit}, h.Sequence
		}
	}
	moved.Elsewhere = !b.removed() && b.Head.Commit.Defined() && !slices.Contains(states, b.Head.Commit)
	_, err = m.Table.Learn(ctx, news)
	return moved, err
}

func (m *mover) bind(b before, key crypto.PrivKey) (namespace.Binding, error) {
	if b.Binding.Data != nil {
		return m.To.Bind(b.Binding.Name, key, b.Binding.Generation, b.Binding.Life)
	}
	life := uint64(0)
	if b.here.Removed {
		life = 1
	}
	return m.To.Bind(b.here.Name, key, 1, life)
}

// states are those whose successors are to be made: heads that are kept here, and the one that is recorded here, unless a
// head comes after it. at is the one of them that the volume is then at on this host.
func (m *mover) states(ctx context.Context, b before) (all []cid.Cid, at cid.Cid, _ error) {
	id := b.Key.String()
	for _, tip := range b.Tips() {
		_, kept := m.pins[owned{volume.PinOwner, id}][tip.Commit]
		_, ended := m.pins[owned{publish.EndOwner, id}][tip.Commit]
		if kept || ended {
			all = append(all, tip.Commit)
		}
	}
	if b.here == nil || b.here.Removed || slices.Contains(all, b.here.Head) {
		if b.here != nil {
			at = b.here.Head
		}
		return all, at, nil
	}
	for _, tip := range b.Tips() {
		later, err := m.after(ctx, tip.Commit, b.here.Head)
		if later && slices.Contains(all, tip.Commit) {
			at = tip.Commit
		}
		if err != nil || later {
			return all, at, err
		}
	}
	has, err := m.s.Has(ctx, b.here.Head)
	if err != nil || !has[0] {
		return all, cid.Undef, err
	}
	return append(all, b.here.Head), b.here.Head, nil
}

// after reports whether a commit comes after an earlier one, as far as that is known here.
func (m *mover) after(ctx context.Context, c, earlier cid.Cid) (bool, error) {
	commit, err := m.commit(ctx, c)
	if err != nil {
		return false, ctx.Err()
	}
	is, err := snapshot.ComesAfter(ctx, volume.Here{Blocks: m.s}, commit, earlier, 0)
	return is && err == nil, ctx.Err()
}

func (m *mover) commit(ctx context.Context, c cid.Cid) (*snapshot.Commit, error) {
	blk, err := volume.Here{Blocks: m.s}.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	return snapshot.DecodeCommit(blk)
}

// succeed makes the successor of a state, of the same files, after it, and pins it. All that it says comes of the state.
func (m *mover) succeed(ctx context.Context, b before, state cid.Cid, id ipns.Name, key crypto.PrivKey) (head.Head, error) {
	was, err := m.commit(ctx, state)
	if err != nil {
		return head.Head{}, err
	}
	c := &snapshot.Commit{
		Tree: was.Tree, Meta: was.Meta, Stats: was.Stats, NoXattrs: was.NoXattrs, Import: was.Import, Consistency: was.Consistency,
		Volume: id.String(), Time: was.Time, Author: was.Author, Message: Message, Fork: was.Fork, Labels: volume.OptionLabels(was),
	}
	kind := volume.PinOwner
	if head.IsTombstone(was) {
		// It ends what the other one ended, which is no state to go back to.
		c.Labels, kind = map[string]string{head.LabelRemoved: ""}, publish.EndOwner
		c.Parents, c.Recent, c.Older, c.Sequence = was.Parents, was.Recent, was.Older, was.Sequence
	} else if err := snapshot.Extend(ctx, m.s, c, state); err != nil {
		return head.Head{}, err
	}
	blk, err := snapshot.EncodeCommit(c)
	if err != nil {
		return head.Head{}, err
	}
	if err := errors.Join(m.s.Put(ctx, blk), m.s.Sync(ctx)); err != nil {
		return head.Head{}, err
	}
	own, err := m.Own.Own(ctx, state)
	if err == nil && own {
		err = m.Own.MarkOwn(ctx, blk.Cid())
	}
	if err != nil {
		return head.Head{}, err
	}
	pin := pinset.Pin{Root: blk.Cid(), Owner: kind + id.String(), Created: c.Time, Name: fmt.Sprintf("%s@%d", b.name(), c.Sequence), Meta: map[string]string{
		volume.PinVolume: id.String(), volume.PinName: b.name(), volume.PinSequence: fmt.Sprint(c.Sequence),
	}}
	if kind == publish.EndOwner {
		pin.Name, pin.Meta = b.name()+" removed", nil
	}
	if err := m.Pins.Add(ctx, pin); err != nil {
		return head.Head{}, err
	}
	return head.SignCommit(key, blk.Cid(), c)
}

// Apply records the volumes as their successors, and gives these the pins of the volumes.
func Apply(ctx context.Context, o Options, all []Moved, step func(label string) error) error {
	successors := map[string]volume.Successor{}
	for _, m := range all {
		successors[m.From] = volume.Successor{Key: m.Key, Head: m.Head.Cid, Sequence: m.Sequence}
	}
	if err := o.Volumes.Succeed(successors); err != nil {
		return err
	}
	if err := step(StepVolumes); err != nil {
		return err
	}
	var old []pinset.Pin
	for p, err := range o.Pins.All(ctx) {
		if err != nil {
			return err
		}
		if of, is := ownedBy(p.Owner); is && successors[of.id].Key.Volume != "" {
			old = append(old, p)
		}
	}
	for _, p := range old {
		of, _ := ownedBy(p.Owner)
		next := p
		next.Owner, next.Meta = of.owner+successors[of.id].Key.Volume, maps.Clone(p.Meta)
		if next.Meta[volume.PinVolume] != "" {
			next.Meta[volume.PinVolume] = successors[of.id].Key.Volume
		}
		if err := o.Pins.Add(ctx, next); err != nil {
			return err
		}
		if err := step(StepPin); err != nil {
			return err
		}
		if err := o.Pins.Remove(ctx, p.Root, p.Owner); err != nil {
			return err
		}
	}
	return step(StepPins)
}

// Steps at which a crash may come. Each label is reached once the named thing was done.
const (
	StepVolumes = "volumes-recorded"
	StepPin     = "pin-given"
	StepPins    = "pins-given"
)
