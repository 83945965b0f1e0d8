package outbox

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/snapshot"
)

const stateVersion = 1

// The database: bucket "wishes" has for each root and owner the last wish.
var bucketWishes = []byte("wishes")

// record is what is durable of a wish.
type record struct {
	Entry
	Order    uint64    `json:"order"` // of two wishes the later one has the larger
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts,omitempty"`
	Tried    time.Time `json:"tried,omitzero"`
	Error    string    `json:"error,omitempty"`
}

// pinKey is what there is one wish for: an owner's pin of a root.
type pinKey struct {
	root  cid.Cid
	owner string
}

// bytes is the key in the database: a CID says itself where it ends.
func (k pinKey) bytes() []byte { return append(k.root.Bytes(), k.owner...) }

func (r *record) key() pinKey { return pinKey{r.Pin.Root, r.Pin.Owner} }

// groupPin reports whether a pin replaces others, and may be replaced by them.
func (r *record) groupPin() bool { return r.Op == Pin && r.Group != "" }

func (r *record) replaceable() bool { return r.groupPin() && !r.Keep }

// inherit makes a wish wait since, and have failed as often as, the one that it replaces.
func (r *record) inherit(old *record) {
	if old.Since.Before(r.Since) {
		r.Since = old.Since
	}
	if old.Attempts > r.Attempts {
		r.Attempts, r.Tried, r.Error = old.Attempts, old.Tried, old.Error
	}
}

// write records a wish, if there is one, and forgets others, in one step. A wish without an order gets the next one.
func (q *Queue) write(label string, wish *record, forget ...pinKey) error {
	if err := q.step(label); err != nil {
		return err
	}
	return q.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketWishes)
		for _, key := range forget {
			if err := b.Delete(key.bytes()); err != nil {
				return err
			}
		}
		if wish == nil {
			return nil
		}
		if wish.Order == 0 {
			var err error
			if wish.Order, err = b.NextSequence(); err != nil {
				return err
			}
		}
		data, err := json.Marshal(wish)
		if err != nil {
			return err
		}
		return b.Put(wish.key().bytes(), data)
	})
}

// load takes over what an earlier queue left. All of it is due.
func (q *Queue) load() error {
	err := q.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketWishes).ForEach(func(key, data []byte) error {
			var r record
			if err := json.Unmarshal(data, &r); err != nil {
				return fmt.Errorf("read a wish: %w: %w", snapshot.ErrDamaged, err)
			}
			if err := r.check(); err != nil || string(r.key().bytes()) != string(key) {
				return fmt.Errorf("wish under the key of another (%v): %w", err, snapshot.ErrDamaged)
			}
			q.items[r.key()] = &item{record: r, index: -1}
			return nil
		})
	})
	for _, it := range q.items {
		if g := q.group(it.Group); it.groupPin() && (g.pending == nil || g.pending.Order < it.Order) {
			g.pending = it
		}
	}
	now := time.Now()
	for _, it := range q.items {
		q.schedule(it, now)
	}
	return err
}
