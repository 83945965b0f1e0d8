// Package table keeps on the host what it knows of the namespace's volumes: their heads, their names, which are
// removed, and what is still to be told to others.
//
// Start with [Open]. [Table.Advance] records a head that this host made, [Table.Learn] what was heard from anywhere; a
// [Volume] is what comes of both.
//
// It guarantees: what a method returned from is durable; a volume's head never moves back, and the same news in any
// order give the same head and the same name; a head that is no ancestor of another is kept as a fork; a removed
// volume comes back by a later binding and by nothing else.
package table

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"sync"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/head"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/statedb"
)

var (
	// ErrUnknown says that nothing is known of a volume or name.
	ErrUnknown error = unknown{}
	// ErrConflict says that a volume has moved on since the state that something was made from.
	ErrConflict = errors.New("the volume has a newer state")
	// ErrRemoved says that a volume is removed.
	ErrRemoved = errors.New("the volume is removed")
)

type unknown struct{}

func (unknown) Error() string { return "no such volume is known" }
func (unknown) Unwrap() error { return fs.ErrNotExist }

const stateVersion = 1

// The database: "tips" has for each volume and each commit that is a head and no head's ancestor the head, "bindings"
// each volume's newest binding, "bound" each name with each volume that is bound to it, "names" the largest generation
// of each name, "unsent" what others were not told: a volume's key is for its binding, followed by a commit for that tip.
var (
	bucketTips     = []byte("tips")
	bucketBindings = []byte("bindings")
	bucketBound    = []byte("bound")
	bucketNames    = []byte("names")
	bucketUnsent   = []byte("unsent")
)

// History yields the ancestors of a commit, the newest first, as far as they are known on this host, and an error where
// they are not. It does not wait for the network.
type History func(ctx context.Context, commit cid.Cid) iter.Seq2[snapshot.Ancestor, error]

// Table is what a host knows of volumes. It must be made by Open; all methods are safe for concurrent use.
type Table struct {
	db      *bolt.DB
	history History

	mu sync.Mutex // held by whoever changes something: what is an ancestor of what is found out outside of transactions

	watching sync.Mutex
	watchers []*Watcher
}

// Open opens a table, which it makes if it is missing. history may be nil: then nothing is known of ancestors.
func Open(path string, history History) (*Table, error) {
	db, err := statedb.Open(path, stateVersion, bucketTips, bucketBindings, bucketBound, bucketNames, bucketUnsent)
	if err != nil {
		return nil, err
	}
	if history == nil {
		history = func(context.Context, cid.Cid) iter.Seq2[snapshot.Ancestor, error] {
			return func(func(snapshot.Ancestor, error) bool) {}
		}
	}
	return &Table{db: db, history: history}, nil
}

// Close gives the table up.
func (t *Table) Close() error { return t.db.Close() }

// Volume is what is known of one.
type Volume struct {
	Key     ipns.Name
	Binding namespace.Binding // the one that counts; zero if none was heard of yet
	Head    head.Head         // where it is; zero if only a binding was heard of
	Forks   []head.Head       // heads that are no ancestors of another, the newest first
	Named   bool              // its name means it, and no other volume
	Unsent  bool              // others were not told all of it
	Untold  []head.Head       // the heads that they are to be told, with the binding, the newest first
}

// Tips are the heads that are no ancestors of another, the newest first.
func (v Volume) Tips() []head.Head {
	if v.Head.Record == nil {
		return nil
	}
	return append([]head.Head{v.Head}, v.Forks...)
}

// Removed reports whether the volume is removed.
func (v Volume) Removed() bool { return v.Binding.Removed() }

// Volume returns what is known of one. The error wraps ErrUnknown.
func (t *Table) Volume(key ipns.Name) (v Volume, err error) {
	err = t.db.View(func(tx *bolt.Tx) error {
		if v, err = volumeOf(tx, key); err != nil {
			return err
		}
		if v.Binding.Data == nil && v.Head.Record == nil {
			return fmt.Errorf("%s: %w", key, ErrUnknown)
		}
		return v.setNamed(tx)
	})
	return v, err
}

// Named returns the volume that a name means. The error wraps ErrUnknown.
func (t *Table) Named(name string) (v Volume, _ error) {
	return v, t.db.View(func(tx *bolt.Tx) error {
		b, err := holder(tx, name)
		if err != nil {
			return err
		}
		v, err = volumeOf(tx, b.Volume)
		v.Named = true
		return err
	})
}

// Volumes returns all volumes that were heard of, in the order of their keys.
func (t *Table) Volumes() (all []Volume, _ error) {
	return all, t.db.View(func(tx *bolt.Tx) error {
		for _, key := range keys(tx) {
			v, err := volumeOf(tx, key)
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		names := namespace.Names(func(yield func(namespace.Binding) bool) {
			for _, v := range all {
				if !yield(v.Binding) {
					return
				}
			}
		})
		for i, v := range all {
			all[i].Named = names[v.Binding.Name].Volume == v.Key
		}
		return nil
	})
}

// keys returns every volume that has a tip or a binding.
func keys(tx *bolt.Tx) (all []ipns.Name) {
	for _, bucket := range [][]byte{bucketTips, bucketBindings} {
		c := tx.Bucket(bucket).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			if key := keyName(k[:keyLen]); len(all) == 0 || all[len(all)-1] != key {
				all = append(all, key)
			}
		}
	}
	slices.SortFunc(all, func(a, b ipns.Name) int { return bytes.Compare(nameKey(a), nameKey(b)) })
	return slices.Compact(all)
}

func volumeOf(tx *bolt.Tx, key ipns.Name) (v Volume, err error) {
	v = Volume{Key: key}
	if data := tx.Bucket(bucketBindings).Get(nameKey(key)); data != nil {
		if err := decode(data, &v.Binding); err != nil {
			return v, err
		}
	}
	tips, err := tipsOf(tx, key)
	if err == nil && len(tips) > 0 {
		v.Head, v.Forks = tips[0], tips[1:]
	}
	v.setUnsent(tx, tips)
	return v, err
}

// setUnsent says what others are to be told. A binding goes with the newest head.
func (v *Volume) setUnsent(tx *bolt.Tx, tips []head.Head) {
	unsent := tx.Bucket(bucketUnsent)
	v.Unsent = unsent.Get(nameKey(v.Key)) != nil
	for i, h := range tips {
		if v.Unsent && i == 0 || unsent.Get(tipKey(v.Key, h.Commit)) != nil {
			v.Untold = append(v.Untold, h)
		}
	}
	v.Unsent = v.Unsent || len(v.Untold) > 0
}

func (v *Volume) setNamed(tx *bolt.Tx) error {
	b, err := holder(tx, v.Binding.Name)
	if v.Named = err == nil && b.Volume == v.Key; errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// holder returns the binding of the volume that a name means.
func holder(tx *bolt.Tx, name string) (b namespace.Binding, _ error) {
	var candidates []namespace.Binding
	prefix := append([]byte(name), 0)
	c := tx.Bucket(bucketBound).Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		var b namespace.Binding
		if err := decode(tx.Bucket(bucketBindings).Get(k[len(prefix):]), &b); err != nil {
			return b, err
		}
		candidates = append(candidates, b)
	}
	b, ok := namespace.Names(slices.Values(candidates))[name]
	if !ok {
		return b, fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	return b, nil
}

// tipsOf returns the heads of a volume that are no ancestors of another, the newest first.
func tipsOf(tx *bolt.Tx, key ipns.Name) (tips []head.Head, _ error) {
	prefix := nameKey(key)
	c := tx.Bucket(bucketTips).Cursor()
	for k, data := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, data = c.Next() {
		var h head.Head
		if err := decode(data, &h); err != nil {
			return nil, err
		}
		tips = append(tips, h)
	}
	slices.SortFunc(tips, func(a, b head.Head) int { return head.Compare(b, a) })
	return tips, nil
}

// nameKey is a volume's key in the database, keyLen bytes: the Ed25519 key itself, in an identity multihash.
func nameKey(key ipns.Name) []byte { return []byte(key.Peer()) }

const keyLen = 38

func keyName(b []byte) ipns.Name { return ipns.NameFromPeer(peer.ID(b)) }

func decode(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read the table of heads: %w: %w", snapshot.ErrDamaged, err)
	}
	return nil
}
