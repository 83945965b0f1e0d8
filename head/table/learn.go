package table

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/head"
	"github.com/volary/volary/namespace"
)

// News is what was heard of volumes, verified.
type News struct {
	Heads    []head.Head
	Bindings []namespace.Binding
	Own      bool // this host made the heads: others are to be told those that are new
}

// Learn records news in one step, and returns the volumes of which something is new. What is older than what is known
// changes nothing. A head whose commit is not on this host is taken for a fork of all others that are not its known
// descendants; so fetch a head's commit first, or call Settle when it is there.
func (t *Table) Learn(ctx context.Context, news News) ([]ipns.Name, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	plans, err := t.judge(ctx, news.Heads, cid.Undef)
	if err != nil {
		return nil, err
	}
	var changed, bound []ipns.Name
	err = t.db.Update(func(tx *bolt.Tx) error {
		changed, bound = nil, nil
		for key, p := range plans {
			if err := p.carryOut(tx, key); err != nil {
				return err
			}
			for _, h := range p.add {
				if !news.Own {
					break
				}
				if err := tx.Bucket(bucketUnsent).Put(tipKey(key, h.Commit), []byte{}); err != nil {
					return err
				}
			}
			if p.news {
				changed = append(changed, key)
			}
		}
		for _, b := range news.Bindings {
			newer, err := bind(tx, b)
			if err != nil {
				return err
			}
			if newer {
				bound = append(bound, b.Volume)
			}
			if newer && !slices.Contains(changed, b.Volume) {
				changed = append(changed, b.Volume)
			}
		}
		return nil
	})
	if err == nil {
		t.changed(changes(plans, bound, news.Own))
	}
	return changed, err
}

// Settle looks again at a volume's forks: ancestors may be known by now that were not when the heads were learned.
func (t *Table) Settle(ctx context.Context, key ipns.Name) error {
	v, err := t.Volume(key)
	if err != nil || len(v.Forks) == 0 {
		return err
	}
	_, err = t.Learn(ctx, News{Heads: v.Forks})
	return err
}

// Advance records a head that this host made from the state prev, undefined for a volume's first one, and with it a
// binding if there is a new one; others are to be told. With h the head that the volume has, only the binding is new.
// The error wraps ErrConflict if prev is not where the volume is, or the binding is not newer than the one known, and
// ErrRemoved if the volume is removed and no binding brings it back. Advancing to where the volume is already is no
// error.
func (t *Table) Advance(ctx context.Context, prev cid.Cid, h head.Head, b *namespace.Binding) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	plans, err := t.judge(ctx, []head.Head{h}, prev)
	if err != nil {
		return err
	}
	done := false
	err = t.db.Update(func(tx *bolt.Tx) error {
		v, err := volumeOf(tx, h.Volume)
		if err != nil {
			return err
		}
		if done, err = v.mayAdvance(prev, h, b); done || err != nil {
			return err
		}
		unsent := tx.Bucket(bucketUnsent)
		if b != nil {
			if _, err := bind(tx, *b); err != nil {
				return err
			}
			if err := unsent.Put(nameKey(h.Volume), []byte{}); err != nil {
				return err
			}
		}
		if err := plans[h.Volume].carryOut(tx, h.Volume); err != nil {
			return err
		}
		return unsent.Put(tipKey(h.Volume, h.Commit), []byte{})
	})
	if err != nil || done {
		return err
	}
	var bound []ipns.Name
	if b != nil {
		bound = append(bound, h.Volume)
	}
	t.changed(changes(plans, bound, true))
	return nil
}

// mayAdvance says whether what is to be done is done already, or must not be.
func (v Volume) mayAdvance(prev cid.Cid, h head.Head, b *namespace.Binding) (done bool, _ error) {
	switch {
	case b != nil && b.Volume != h.Volume:
		return false, fmt.Errorf("binding of %s with a head of %s", b.Volume, h.Volume)
	case b == nil && v.Binding.Data == nil:
		return false, fmt.Errorf("head of %s without a binding: %w", h.Volume, ErrUnknown)
	case b != nil && v.Binding.Data != nil && namespace.Compare(*b, v.Binding) < 0:
		return false, fmt.Errorf("%q has another binding: %w", v.Binding.Name, ErrConflict)
	}
	bound := v.Binding
	if b != nil {
		bound = *b
	}
	if v.Head.Commit == h.Commit {
		return namespace.Compare(bound, v.Binding) == 0, nil
	}
	switch {
	case v.Head.Commit != prev:
		return false, fmt.Errorf("%q is at %s, not at %s: %w", bound.Name, v.Head.Commit, prev, ErrConflict)
	case h.Sequence <= v.Head.Sequence:
		return false, fmt.Errorf("%s would be state %d of %q after %d: %w", h.Commit, h.Sequence, bound.Name, v.Head.Sequence, ErrConflict)
	case v.Removed() && bound.Removed():
		return false, fmt.Errorf("%q: %w", v.Binding.Name, ErrRemoved)
	}
	return false, nil
}

// Sent records that others were told the heads of a volume that were Untold then, and its binding.
func (t *Table) Sent(v Volume) error {
	return t.db.Update(func(tx *bolt.Tx) error {
		unsent := tx.Bucket(bucketUnsent)
		for _, h := range v.Untold {
			if err := unsent.Delete(tipKey(v.Key, h.Commit)); err != nil {
				return err
			}
		}
		now, err := volumeOf(tx, v.Key)
		if err != nil || namespace.Compare(now.Binding, v.Binding) != 0 {
			return err
		}
		return unsent.Delete(nameKey(v.Key))
	})
}

// Unsent returns the volumes with something that others were not told.
func (t *Table) Unsent() (all []Volume, _ error) {
	return all, t.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketUnsent).ForEach(func(k, _ []byte) error {
			key := keyName(k[:keyLen])
			if len(all) > 0 && all[len(all)-1].Key == key {
				return nil
			}
			v, err := volumeOf(tx, key)
			all = append(all, v)
			return err
		})
	})
}

// Generation is what the next binding of a volume to a name must have.
func (t *Table) Generation(name string, key ipns.Name) (g uint64, _ error) {
	return g, t.db.View(func(tx *bolt.Tx) error {
		v, err := volumeOf(tx, key)
		g = 1 + max(v.Binding.Generation, generationOf(tx, name))
		return err
	})
}

// NewKey returns the key of a new volume of a name, and the generation to bind it with. Hosts that know the same make
// the same. A key that any volume has, or had, is not given again.
func (t *Table) NewKey(n *namespace.Namespace, name string) (key crypto.PrivKey, g uint64, _ error) {
	return key, g, t.db.View(func(tx *bolt.Tx) error {
		for g = 1 + generationOf(tx, name); ; g++ {
			var err error
			if key, err = n.DeriveKey(name, g); err != nil {
				return err
			}
			volume, err := namespace.NameOf(key)
			if err != nil {
				return err
			}
			v, err := volumeOf(tx, volume)
			if err != nil || v.Binding.Data == nil && v.Head.Record == nil {
				return err
			}
		}
	})
}

func generationOf(tx *bolt.Tx, name string) uint64 {
	if b := tx.Bucket(bucketNames).Get([]byte(name)); len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bind records a binding if it is newer than the one known.
func bind(tx *bolt.Tx, b namespace.Binding) (newer bool, _ error) {
	if b.Data == nil {
		return false, fmt.Errorf("binding of %q is not signed", b.Name)
	}
	if b.Generation > generationOf(tx, b.Name) {
		if err := tx.Bucket(bucketNames).Put([]byte(b.Name), binary.BigEndian.AppendUint64(nil, b.Generation)); err != nil {
			return false, err
		}
	}
	v, err := volumeOf(tx, b.Volume)
	if err != nil || v.Binding.Data != nil && namespace.Compare(b, v.Binding) <= 0 {
		return false, err
	}
	bound := tx.Bucket(bucketBound)
	if err := bound.Delete(boundKey(v.Binding.Name, b.Volume)); err != nil {
		return false, err
	}
	if !b.Removed() {
		if err := bound.Put(boundKey(b.Name, b.Volume), []byte{}); err != nil {
			return false, err
		}
	}
	data, err := json.Marshal(b)
	if err != nil {
		return false, err
	}
	return true, tx.Bucket(bucketBindings).Put(nameKey(b.Volume), data)
}

func boundKey(name string, key ipns.Name) []byte {
	return append(append([]byte(name), 0), nameKey(key)...)
}
