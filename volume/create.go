package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/unixfs"
)

// Create makes a volume, empty or from a snapshot. No data is copied.
type Create struct {
	Name    string            `json:"name"`
	From    string            `json:"from,omitempty"` // a reference; see [Manager.Resolve]
	Options map[string]string `json:"options,omitempty"`
	Key     *Key              `json:"key,omitempty"` // that it is to have; nil: one of its own
}

// Check is nil if a volume that begins as this one can have the options: an error wraps ErrInvalid and lists what is valid.
// See [ParseOptions] for also.
func (op *Create) Check(also ...string) error {
	o, err := ParseOptions(op.Options, also...)
	if err != nil || op.From == "" {
		return err
	}
	for _, key := range []string{"gid", "mode", "uid"} {
		if _, given := op.Options[key]; given {
			return fmt.Errorf("option %s with from: %w\n%s is of an empty volume's root; one that begins as a snapshot has that of the snapshot", key, ErrInvalid, key)
		}
	}
	if o.Follow {
		return fmt.Errorf("option follow with from: %w\na volume follows itself, and not what it began as; "+
			"`volary volume set VOLUME follow=true` has VOLUME show each new state on this host", ErrInvalid)
	}
	return nil
}

func (op *Create) run(ctx context.Context, m *Manager) (Result, error) {
	if err := op.Check(); err != nil {
		return Result{}, err
	}
	return op.make(ctx, m)
}

// make is run with whatever options another volume has.
func (op *Create) make(ctx context.Context, m *Manager) (Result, error) {
	if err := m.checkFree(ctx, op.Name, ""); err != nil {
		return Result{}, err
	}
	o, err := ParseOptions(op.Options)
	if err == nil {
		err = checkSayable(op.Options)
	}
	if err != nil {
		return Result{}, err
	}
	if err := m.checkDurability(ctx, o); err != nil {
		return Result{}, fmt.Errorf("create volume %s: %w", op.Name, err)
	}
	unlock, err := m.lock(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if _, err := m.db.get(op.Name); err == nil {
		return Result{}, fmt.Errorf("%q: %w", op.Name, ErrExist)
	}
	from := cid.Undef
	if op.From != "" {
		if from, err = m.Resolve(ctx, op.From); err != nil {
			return Result{}, err
		}
	}
	own := true
	if from.Defined() {
		if own, err = m.o.Own.Own(ctx, from); err != nil {
			return Result{}, err
		}
	}
	r, err := m.create(ctx, &record{Name: op.Name, Options: op.Options, Key: op.Key}, own, func(ctx context.Context, s Session) (*snapshot.Commit, []cid.Cid, error) {
		if from.Defined() {
			return over(ctx, s, from)
		}
		c, err := m.empty(ctx, s, o)
		return c, nil, err
	})
	if err != nil {
		return Result{}, fmt.Errorf("create volume %s: %w", op.Name, err)
	}
	return m.result(ctx, r)
}

func (m *Manager) result(ctx context.Context, r *record) (Result, error) {
	i, err := m.info(ctx, r, false)
	return Result{Volume: i, Commit: r.Head}, err
}

// create records a new volume with the commit that first makes.
func (m *Manager) create(ctx context.Context, r *record, own bool,
	first func(context.Context, Session) (*snapshot.Commit, []cid.Cid, error)) (*record, error) {
	s, err := m.o.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	c, parents, err := first(ctx, s)
	if err != nil {
		return nil, err
	}
	if r.ID, err = m.begin(ctx, r.Name, r.Key); err != nil {
		return nil, err
	}
	r.Created = m.o.Now().UTC()
	c.Consistency = snapshot.Clean
	if r, err = m.extend(ctx, s, r, c, own, parents...); err != nil {
		return nil, err
	}
	r.Awaited = CID{} // nothing was written yet
	if err := m.step(StepHead); err != nil {
		return nil, err
	}
	if err := m.db.add(r); err != nil {
		return nil, err
	}
	m.tell(ctx, r)
	return r, nil
}

// localIDLength is how long the ID of a volume is that no other host knows.
const localIDLength = 16

func newID() string {
	b := make([]byte, localIDLength/2)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// over is a commit of the same files as a snapshot, after it if that is a commit.
func over(ctx context.Context, s Session, root cid.Cid) (*snapshot.Commit, []cid.Cid, error) {
	t, err := tree.Open(ctx, s, root)
	if err != nil {
		return nil, nil, err
	}
	if !t.Root().IsDir() {
		return nil, nil, fmt.Errorf("%s is a %s, not a directory: %w", root, t.Root().Type, ErrInvalid)
	}
	if t.Commit == nil {
		return &snapshot.Commit{Tree: root, Import: snapshot.ImportInfo{Profile: unixfs.Profile}, Consistency: snapshot.Clean}, nil, nil
	}
	return &snapshot.Commit{
		Tree: t.Commit.Tree, Meta: t.Commit.Meta, Stats: t.Commit.Stats, NoXattrs: t.Commit.NoXattrs, Import: t.Commit.Import,
		Consistency: t.Commit.Consistency,
	}, []cid.Cid{root}, nil
}

// empty is a commit of an empty directory.
func (m *Manager) empty(ctx context.Context, s Session, o VolumeOptions) (*snapshot.Commit, error) {
	dir, err := unixfs.WriteDir(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	now := m.o.Now()
	sidecar, err := meta.WriteRoot(ctx, s, meta.Attr{
		Type: meta.Dir, Mode: o.Mode, UID: o.UID, GID: o.GID, Sec: now.Unix(), Nsec: uint32(now.Nanosecond()),
	}, nil)
	chunker := o.Chunker
	if chunker == "" {
		chunker = m.o.Chunker
	}
	return &snapshot.Commit{
		Tree: dir.CID, Meta: sidecar, Stats: snapshot.Stats{Dirs: 1}, NoXattrs: true,
		Import: snapshot.ImportInfo{Profile: unixfs.Profile, Chunker: chunker},
	}, err
}

// Clone makes a volume that begins at another's state. No data is copied. What the other has not committed is
// not in it.
type Clone struct {
	Name    string            `json:"name"` // or a reference to one of its states, such as data@3
	To      string            `json:"to"`
	Options map[string]string `json:"options,omitempty"` // instead of those of the other

	WithoutHooks bool `json:"-"` // of the other's options, leave those out that name commands
}

func (op *Clone) run(ctx context.Context, m *Manager) (Result, error) {
	options := op.Options
	if options != nil {
		if err := (&Create{From: op.Name, Options: options}).Check(); err != nil {
			return Result{}, err
		}
	} else {
		name, _, _ := splitRef(op.Name)
		if err := m.hear(ctx, name); err != nil {
			return Result{}, err
		}
		r, _, err := m.look(ctx, name)
		if err != nil {
			return Result{}, err
		}
		m.hearOptionsHere(ctx, r)
		options = maps.Clone(r.given())
		if op.WithoutHooks {
			maps.DeleteFunc(options, func(key, _ string) bool { return isHook(key) })
		}
	}
	return (&Create{Name: op.To, From: op.Name, Options: options}).make(ctx, m)
}
