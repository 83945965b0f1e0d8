package volume

import (
	"context"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/apply"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
)

// Steps of a change at which a crash or a power cut may come. Each label is reached before the step is taken.
const (
	StepOverlay = "overlay-recorded" // overlay and base are recorded together
	StepMount   = "mounted"
	StepUsers   = "users-recorded"
	StepLeft    = "left-recorded" // a user is gone, whatever goes on
	StepImport  = "layers-read"
	StepStore   = "commit-stored" // blocks are durable
	StepPin     = "commit-pinned"
	StepHead    = "head-recorded"
	StepUnmount = "unmounted"
	StepRetire  = "overlay-retired"
	StepDelete  = "overlay-deleted"
	StepRemove  = "removal-recorded"
	StepPurge   = "removed-forgotten" // nothing keeps its states
	StepTag     = "recovered-tagged"
	StepShown   = "shown-recorded" // what a mount that follows shows already
	StepLast    = "last-recorded"  // how many states are kept because the volume is followed
	StepLetGo   = "let-go"         // of one of them that is too much
	StepAwaited = "replicas-recorded"
)

// PinOwner begins the owner of a volume's pins; its ID follows.
const PinOwner = "volume/"

// Keys of the notes at a volume's pins.
const (
	PinVolume   = "volume"   // the volume's ID
	PinName     = "name"     // the volume's name when the commit was made
	PinSequence = "sequence" // the commit's
)

// Commit makes a snapshot of a volume as it is now, the head's child. When nothing changed since the head was
// made, the head stays.
type Commit struct {
	Name    string            `json:"name"`
	Message string            `json:"message,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Hooks   Hooks             `json:"hooks,omitzero"`    // instead of those of the volume's options
	NoWait  bool              `json:"no_wait,omitempty"` // for replicas, whatever the volume's options say
	Pause   bool              `json:"pause,omitempty"`   // stop those who write; an error if there are some that cannot be

	pauseIfCan bool // the same, and no error
}

func (op *Commit) run(ctx context.Context, m *Manager) (Result, error) {
	if err := checkLabels(op.Labels); err != nil {
		return Result{}, err
	}
	r, unlock, err := m.lockToChange(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	res, err := m.commit(ctx, r, *op, consistencyOf(r))
	if err != nil {
		return Result{}, fmt.Errorf("commit %s: %w", op.Name, err)
	}
	if !res.Created {
		res.Note = unchanged(r)
		if op.Message != "" || len(op.Labels) > 0 {
			res.Note += "; the message and labels are not recorded"
		}
	}
	if res.Volume, err = m.info(ctx, r, false); err == nil && res.Created {
		res.Note = madeNote(res.Volume)
	}
	return res, err
}

func unchanged(r *record) string {
	return fmt.Sprintf("nothing changed since %s@%d", r.Name, r.Sequence)
}

// consistencyOf says what a commit of the volume can promise: with users somebody may be writing.
func consistencyOf(r *record) snapshot.Consistency {
	if len(r.Users) == 0 {
		return snapshot.Clean
	}
	return snapshot.Live
}

// commit makes a commit of what the overlay shows, and records it as the head.
func (m *Manager) commit(ctx context.Context, r *record, op Commit, how snapshot.Consistency) (Result, error) {
	if r.Overlay == nil || r.Overlay.ReadOnly {
		return Result{Commit: r.Head}, nil
	}
	s, err := m.o.Begin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.Close()
	got, err := m.hookedRead(ctx, s, r, op, how)
	if err != nil {
		return Result{}, err
	}
	c := got.commit
	same, err := m.isHead(ctx, s, r, c)
	if err != nil {
		return Result{}, err
	}
	if same {
		m.looked(r.Overlay, got.began, false)
		m.wentWell(r, FailedCommit)
		return Result{Commit: r.Head, Unsettled: got.unsettled, Warning: got.warning}, m.rememberBoot(r)
	}
	c.Message, c.Labels, c.Consistency = op.Message, op.Labels, got.how
	own, err := m.o.Own.Own(ctx, r.Head.Cid)
	if err != nil {
		return Result{}, err
	}
	next, err := m.extend(ctx, s, r, c, own, r.Head.Cid)
	if err != nil {
		return Result{}, err
	}
	next.Overlay = m.thisBoot(r.Overlay)
	if err := m.step(StepHead); err != nil {
		return Result{}, err
	}
	if err := m.db.put(next); err != nil {
		return Result{}, err
	}
	*r = *next
	m.tell(ctx, r)
	m.looked(r.Overlay, got.began, false)
	m.wentWell(r, FailedCommit)
	if err := m.letGo(ctx, r); err != nil {
		// The commit stands; what is kept too long goes with the next one.
		m.log.Warn("cannot let go of earlier commits", logVolume, r.Name, logError, err)
	}
	return Result{Commit: r.Head, Created: true, Consistency: got.how, Unsettled: got.unsettled, Warning: got.warning}, nil
}

// hookedRead is read between the hooks. They are for who writes: nothing is asked of nobody. Whoever was told before
// need not be stopped.
func (m *Manager) hookedRead(ctx context.Context, s Session, r *record, op Commit, how snapshot.Consistency) (got reading, err error) {
	opts, err := r.options()
	if err != nil {
		return got, err
	}
	h := op.Hooks.or(opts.Hooks)
	if how == snapshot.Clean || !h.any() {
		return m.read(ctx, s, r, op, how)
	}
	if h.Before != "" {
		how = snapshot.Hook
	}
	env := []string{"VOLARY_VOLUME=" + r.Name, "VOLARY_MOUNTPOINT=" + m.o.Mounter.Path(m.overlayDir(r.Overlay.ID))}
	err, after := h.around(ctx, env, func() error {
		got, err = m.read(ctx, s, r, op, how)
		return err
	})
	if after != nil {
		got.warning = after.Error()
		m.log.Error("commit", logVolume, r.Name, logError, after)
	}
	return got, err
}

// snapshot stores what the overlay shows.
func (m *Manager) snapshot(ctx context.Context, s Session, r *record) (*snapshot.Commit, []string, error) {
	if m.o.Mounter == nil {
		return nil, nil, ErrCannotMount
	}
	if err := m.step(StepImport); err != nil {
		return nil, nil, err
	}
	base, err := tree.Open(ctx, s, r.Overlay.Base.Cid)
	if err != nil {
		return nil, nil, err
	}
	o, err := m.importOptions(r, base)
	if err != nil {
		return nil, nil, err
	}
	o.Cache = s
	if r.Overlay.Boot != m.o.Boot {
		o.Cache = importer.Forgetful{StatCache: s}
	}
	return m.o.Mounter.Snapshot(ctx, s, base, m.overlayDir(r.Overlay.ID), o)
}

// thisBoot is the overlay with all of its files known as they are now.
func (m *Manager) thisBoot(o *overlayRecord) *overlayRecord {
	now := *o
	now.Boot = m.o.Boot
	return &now
}

func (m *Manager) rememberBoot(r *record) error {
	if r.Overlay.Boot == m.o.Boot {
		return nil
	}
	r.Overlay = m.thisBoot(r.Overlay)
	return m.db.put(r)
}

func (m *Manager) importOptions(r *record, base *tree.Snapshot) (importer.Options, error) {
	opts, err := r.options()
	if err != nil {
		return importer.Options{}, err
	}
	o := importer.Options{Chunker: opts.Chunker, Exclude: opts.Exclude, NoIgnoreFile: true}
	if o.Chunker == "" && base.Commit != nil {
		o.Chunker = base.Commit.Import.Chunker
	}
	if o.Chunker == "" {
		o.Chunker = m.o.Chunker
	}
	return o, nil
}

// isHead reports whether a commit is of the state the head is of. A head that came without a sidecar is
// compared by the one it would have.
func (m *Manager) isHead(ctx context.Context, s Session, r *record, c *snapshot.Commit) (bool, error) {
	head, err := tree.Open(ctx, s, r.Head.Cid)
	if err != nil {
		return false, err
	}
	return sameState(ctx, s, head, c)
}

func sameState(ctx context.Context, s Session, of *tree.Snapshot, c *snapshot.Commit) (bool, error) {
	if of.Commit.Tree != c.Tree {
		return false, nil
	}
	sidecar := of.Commit.Meta
	if !of.HasSidecar() {
		whole, err := apply.Complete(ctx, s, of)
		if err != nil {
			return false, err
		}
		sidecar = whole.Meta
	}
	return sidecar == c.Meta, nil
}

// extend makes a commit durable and kept, the child of parents, and returns the record with it as its head.
// Its order is the argument that nothing is lost: blocks, then the pin that keeps them, then whoever speaks of it.
func (m *Manager) extend(ctx context.Context, s Session, r *record, c *snapshot.Commit, own bool, parents ...cid.Cid) (*record, error) {
	if r.shared() {
		if err := m.hearOptionsOf(ctx, s, r); err != nil {
			return nil, err
		}
		c.Volume = r.ID
		r.label(c)
	}
	if lost, err := m.losing(ctx, r, parents); err != nil {
		return nil, err
	} else if lost {
		if c.Fork, err = snapshot.BranchOf(ctx, s, r.ID, parents...); err != nil {
			return nil, err
		}
	}
	root, err := m.store(ctx, s, c, own, parents...)
	if err != nil {
		return nil, err
	}
	next := *r
	next.Head, next.Sequence = CID{root}, c.Sequence
	if r.shared() {
		next.Said, next.SaidIn, next.Unsaid = r.says(), next.Head, nil
	}
	next.Awaited = next.Head
	if !m.awaits(&next) {
		next.Awaited = CID{}
	}
	return &next, m.o.Pins.Add(ctx, pinOf(&next, c.Time))
}

// store makes a commit durable, the child of parents, to be pinned next. own says that all that is in it is of this
// host: what began elsewhere stays foreign for good.
func (m *Manager) store(ctx context.Context, s Session, c *snapshot.Commit, own bool, parents ...cid.Cid) (cid.Cid, error) {
	c.Author, c.Time = m.o.Author, m.o.Now().UTC()
	if err := snapshot.Extend(ctx, s, c, parents...); err != nil {
		return cid.Undef, err
	}
	blk, err := snapshot.EncodeCommit(c)
	if err != nil {
		return cid.Undef, err
	}
	if err := m.step(StepStore); err != nil {
		return cid.Undef, err
	}
	if err := s.Put(ctx, blk); err != nil {
		return cid.Undef, err
	}
	if err := s.Sync(ctx); err != nil {
		return cid.Undef, err
	}
	if err := m.step(StepPin); err != nil {
		return cid.Undef, err
	}
	if own {
		if err := m.o.Own.MarkOwn(ctx, blk.Cid()); err != nil {
			return cid.Undef, err
		}
	}
	return blk.Cid(), nil
}

// pinOwner is whose pins those of a volume are.
func pinOwner(r *record) string { return PinOwner + r.ID }

func pinOf(r *record, t time.Time) pinset.Pin {
	return pinset.Pin{Root: r.Head.Cid, Owner: pinOwner(r), Created: t, Name: fmt.Sprintf("%s@%d", r.Name, r.Sequence), Meta: map[string]string{
		PinVolume: r.ID, PinName: r.Name, PinSequence: fmt.Sprint(r.Sequence),
	}}
}

// dirty reports whether the overlay shows something else than the head.
func (m *Manager) dirty(ctx context.Context, r *record) (bool, error) {
	if r.Overlay == nil || r.Overlay.ReadOnly || m.o.Mounter == nil {
		return false, nil
	}
	s, err := m.o.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer s.Close()
	began := time.Now()
	c, _, err := m.snapshot(ctx, s, r)
	if err != nil {
		return false, err
	}
	same, err := m.isHead(ctx, s, r, c)
	if err == nil {
		m.looked(r.Overlay, began, !same)
	}
	return !same, err
}
