package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// Fork is a state of a volume that its head does not come after: two hosts went on from the same one without hearing of
// each other, and what was changed in a fork is not in the head.
type Fork struct {
	Head     CID       `json:"head"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	Author   string    `json:"author"` // peer ID of the host that made it
	Here     bool      `json:"here"`   // this host did
	Files    uint64    `json:"files"`
	Bytes    uint64    `json:"bytes"`
	Base     CID       `json:"base,omitzero"`    // the newest state that it and the head come from, if that is known here
	Newest   bool      `json:"newest,omitempty"` // hosts that have not mounted the volume take it for the head; this one is mounted at another
}

// Here is blocks of which those that are not on this host are not fetched.
type Here struct{ snapshot.Blocks }

// Get implements [snapshot.Blocks].
func (b Here) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	has, err := b.Has(ctx, c)
	if err != nil {
		return nil, err
	}
	if !has[0] {
		return nil, fmt.Errorf("block %s: %w", c, snapshot.ErrNotFound)
	}
	return b.Blocks.Get(ctx, c)
}

func (m *Manager) commitHere(ctx context.Context, c cid.Cid) (*snapshot.Commit, error) {
	blk, err := Here{m.o.Blocks}.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	return snapshot.DecodeCommit(blk)
}

// forks returns the forks of a volume's head, the newest first, as far as that can be told without waiting for blocks.
func (m *Manager) forks(ctx context.Context, r *record) (forks []Fork) {
	last, err := m.lastTold(ctx, r)
	if err != nil || len(last.States) == 0 {
		return nil
	}
	head, err := m.commitHere(ctx, r.Head.Cid)
	if err != nil {
		return nil
	}
	for _, s := range last.States {
		if s == r.Head.Cid {
			continue
		}
		c, err := m.commitHere(ctx, s)
		if err != nil || m.after(ctx, head, s, c.Sequence) || m.after(ctx, c, r.Head.Cid, r.Sequence) {
			continue
		}
		base, err := snapshot.MergeBase(ctx, Here{m.o.Blocks}, r.Head.Cid, s)
		if err != nil {
			base = cid.Undef
		}
		forks = append(forks, Fork{
			Head: CID{s}, Sequence: c.Sequence, Time: c.Time, Author: c.Author, Here: c.Author == m.o.Author,
			Files: c.Stats.Files, Bytes: c.Stats.Bytes, Base: CID{base}, Newest: s == last.Head,
		})
	}
	return forks
}

// losing reports whether a commit with these parents is made on a branch that is known not to be the head.
func (m *Manager) losing(ctx context.Context, r *record, parents []cid.Cid) (bool, error) {
	last, err := m.lastTold(ctx, r)
	if err != nil {
		return false, err
	}
	return snapshot.Losing(ctx, Here{m.o.Blocks}, snapshot.State{CID: last.Head, Sequence: last.Sequence}, last.Fork, parents...)
}

// ForkState stands after the @ of a reference to the fork that a host made; the host's peer ID follows, or its beginning
// or end.
const ForkState = "fork/"

// forkBy returns the newest state of a volume that a host made and that its head does not come after.
func (m *Manager) forkBy(ctx context.Context, r *record, peer string) (cid.Cid, error) {
	last, err := m.lastTold(ctx, r)
	if err != nil {
		return cid.Undef, err
	}
	found, author := cid.Undef, ""
	for _, s := range last.States {
		if s == last.Head {
			continue
		}
		b, err := m.o.Blocks.Get(ctx, s)
		if err != nil {
			return cid.Undef, err
		}
		c, err := snapshot.DecodeCommit(b)
		if err != nil {
			return cid.Undef, err
		}
		switch {
		case peer == "" || !strings.HasPrefix(c.Author, peer) && !strings.HasSuffix(c.Author, peer):
		case !found.Defined():
			found, author = s, c.Author
		case c.Author != author:
			return cid.Undef, fmt.Errorf("%q is more than one host: %w\ngive more of the peer ID", peer, ErrInvalid)
		}
	}
	if !found.Defined() {
		return cid.Undef, sentinel{fmt.Sprintf("no host %q has a fork\nsee `volary volume forks %s`", peer, r.Name), ErrNotFound}
	}
	return found, nil
}

// keptForForks names the states without which forks would be lost, or could not be merged, and why each is kept.
func (m *Manager) keptForForks(ctx context.Context, r *record) (map[cid.Cid]string, error) {
	last, err := m.lastTold(ctx, r)
	if err != nil {
		return nil, err
	}
	kept := map[cid.Cid]string{}
	for _, f := range m.forks(ctx, r) {
		if f.Base.Defined() {
			kept[f.Base.Cid] = "base of a fork"
		}
	}
	for _, s := range last.States {
		kept[s] = "fork"
	}
	return kept, nil
}

// after reports whether a commit comes after a state of a sequence, or that cannot be told without waiting.
func (m *Manager) after(ctx context.Context, c *snapshot.Commit, state cid.Cid, sequence uint64) bool {
	is, err := snapshot.ComesAfter(ctx, Here{m.o.Blocks}, c, state, sequence)
	return is || err != nil
}

// madeNote tells who made a state what other hosts did that is not in it.
func madeNote(i *Info) string {
	var notes []string
	if i.RemovedElsewhere {
		notes = append(notes, fmt.Sprintf("another host removed %s; this state is kept all the same: once it is unmounted, `volary volume undelete %s` brings it back", i.Name, i.Name))
	}
	for _, f := range i.Forks {
		if !f.Here {
			notes = append(notes, fmt.Sprintf("another host has state %s of this volume, which does not have this one's changes: once it is unmounted, `volary volume merge %s` joins them", f.Head, i.Name))
		}
	}
	return strings.Join(notes, "\n")
}

// leftNote tells who mounts a volume that what this host made last is not in it.
func leftNote(i *Info, was CID) string {
	if !slices.ContainsFunc(i.Forks, func(f Fork) bool { return f.Head == was }) {
		return ""
	}
	return fmt.Sprintf("another host's state of %s is newer than %s, which was made here: that is kept, and its changes are not in what is mounted", i.Name, was)
}
