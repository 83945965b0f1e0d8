package table

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// ErrNamespace says that a table is of another namespace.
var ErrNamespace = errors.New("the table of heads is of another namespace")

// bucketNamespace has the ID of the namespace that the table is of. Tables that were never claimed lack it.
var bucketNamespace = []byte("namespace")

var keyID = []byte("id")

// Namespace is the ID of the namespace that the table is of, empty if that was not said yet.
func (t *Table) Namespace() (id string, _ error) {
	return id, t.db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket(bucketNamespace); b != nil {
			id = string(b.Get(keyID))
		}
		return nil
	})
}

// Claim makes a table one of the namespace with that ID, if it is of none yet. The error wraps ErrNamespace if it is of
// another: what it knows was signed there.
func (t *Table) Claim(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	of, err := t.Namespace()
	switch {
	case err != nil || of == id:
		return err
	case of != "":
		return fmt.Errorf("%w: of %s, not %s", ErrNamespace, of, id)
	}
	return t.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketNamespace)
		if err != nil {
			return err
		}
		return b.Put(keyID, []byte(id))
	})
}
