package volume

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/statedb"
)

// stateVersion is the version of the database that this program writes.
const stateVersion = 1

// The database: bucket "volumes" has the records by name, "trash" those of removed volumes
// by ID, "retired" the IDs of overlays whose directories are to be deleted.
var (
	bucketVolumes = []byte("volumes")
	bucketTrash   = []byte("trash")
	bucketRetired = []byte("retired")
)

// record is what is durable of a volume.
type record struct {
	Name     string               `json:"name"`
	ID       string               `json:"id"` // random; stays when the volume is renamed
	Created  time.Time            `json:"created"`
	Head     CID                  `json:"head"`
	Sequence uint64               `json:"sequence"`
	Options  map[string]string    `json:"options,omitempty"` // as given
	Tags     map[string]CID       `json:"tags,omitempty"`
	Overlay  *overlayRecord       `json:"overlay,omitempty"`
	Users    map[string]time.Time `json:"users,omitempty"` // who has it mounted, and since when
	Removed  time.Time            `json:"removed,omitzero"`

	// What other hosts are to be told, beside where the volume is.
	Renamed bool `json:"renamed,omitempty"`
	Revived bool `json:"revived,omitempty"` // after it was removed
	// Told says of one that is removed that others know, or did it.
	Told bool `json:"told,omitempty"`
}

// overlayRecord is a directory of changes and the snapshot they are on.
type overlayRecord struct {
	ID       string `json:"id"`
	Base     CID    `json:"base"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Full     bool   `json:"full,omitempty"`
	Tmpfs    bool   `json:"tmpfs,omitempty"`
	Boot     string `json:"boot"` // the boot in which what is remembered of its files was last known to be true
}

// state is the database. Each change is one transaction, durable when it returns.
type state struct{ db *bolt.DB }

func openState(path string) (*state, error) {
	db, err := statedb.Open(path, stateVersion, bucketVolumes, bucketTrash, bucketRetired)
	if err != nil {
		return nil, err
	}
	return &state{db}, nil
}

func (s *state) close() error { return s.db.Close() }

func (s *state) get(name string) (*record, error) {
	r := new(record)
	return r, s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketVolumes).Get([]byte(name))
		if b == nil {
			return fmt.Errorf("%q: %w", name, ErrNotFound)
		}
		return json.Unmarshal(b, r)
	})
}

// list returns the records of a bucket in the order of its keys.
func (s *state) list(bucket []byte) (rs []*record, _ error) {
	return rs, s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(_, b []byte) error {
			r := new(record)
			rs = append(rs, r)
			return json.Unmarshal(b, r)
		})
	})
}

func (s *state) put(r *record) error {
	return s.db.Update(func(tx *bolt.Tx) error { return putRecord(tx, bucketVolumes, r.Name, r) })
}

func putRecord(tx *bolt.Tx, bucket []byte, key string, r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put([]byte(key), b)
}

// add records a new volume.
func (s *state) add(r *record) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketVolumes).Get([]byte(r.Name)) != nil {
			return fmt.Errorf("%q: %w", r.Name, ErrExist)
		}
		return putRecord(tx, bucketVolumes, r.Name, r)
	})
}

// adopt records a volume that other hosts have, with what is in the trash of it if it was here.
func (s *state) adopt(r *record) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketVolumes).Get([]byte(r.Name)) != nil {
			return fmt.Errorf("%q: %w", r.Name, ErrExist)
		}
		if b := tx.Bucket(bucketTrash).Get([]byte(r.ID)); b != nil {
			var was record
			if err := json.Unmarshal(b, &was); err != nil {
				return err
			}
			r.Created, r.Options, r.Tags = was.Created, was.Options, was.Tags
			if err := tx.Bucket(bucketTrash).Delete([]byte(r.ID)); err != nil {
				return err
			}
		}
		return putRecord(tx, bucketVolumes, r.Name, r)
	})
}

// ofID is what is recorded of the volume with an ID, nil if there is none.
func (s *state) ofID(id string) (*record, error) {
	rs, err := s.list(bucketVolumes)
	if at := slices.IndexFunc(rs, func(r *record) bool { return r.ID == id }); at >= 0 {
		return rs[at], err
	}
	return nil, err
}

// told records that others know of all that was done to a volume until now.
func (s *state) told(r *record) error {
	if !r.Renamed && !r.Revived && r.Removed.IsZero() {
		return nil
	}
	bucket, key := bucketVolumes, r.Name
	if !r.Removed.IsZero() {
		bucket, key = bucketTrash, r.ID
	}
	r.Renamed, r.Revived, r.Told = false, false, !r.Removed.IsZero()
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket).Get([]byte(key))
		if b == nil {
			return nil
		}
		var now record
		if err := json.Unmarshal(b, &now); err != nil || now.ID != r.ID || !now.Removed.Equal(r.Removed) {
			return err
		}
		now.Renamed, now.Revived, now.Told = r.Renamed, r.Revived, r.Told
		return putRecord(tx, bucket, key, &now)
	})
}

// retire records a volume that does not have an overlay any more; the overlay's directory is then garbage.
func (s *state) retire(r *record, overlayID string) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(bucketRetired).Put([]byte(overlayID), nil); err != nil {
			return err
		}
		return putRecord(tx, bucketVolumes, r.Name, r)
	})
}

// retireUnknown records that the directory of an overlay of no volume is garbage.
func (s *state) retireUnknown(overlayID string) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketRetired).Put([]byte(overlayID), nil) })
}

func (s *state) retired() (ids []string, _ error) {
	return ids, s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketRetired).ForEach(func(k, _ []byte) error {
			ids = append(ids, string(k))
			return nil
		})
	})
}

// overlays are the IDs of those of volumes, and of those whose directories are garbage, all of one instant.
func (s *state) overlays() (map[string]bool, error) {
	known := map[string]bool{}
	return known, s.db.View(func(tx *bolt.Tx) error {
		for _, bucket := range [][]byte{bucketVolumes, bucketTrash} {
			err := tx.Bucket(bucket).ForEach(func(_, b []byte) error {
				var r record
				err := json.Unmarshal(b, &r)
				if r.Overlay != nil {
					known[r.Overlay.ID] = true
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return tx.Bucket(bucketRetired).ForEach(func(id, _ []byte) error { known[string(id)] = true; return nil })
	})
}

// deleted forgets a retired overlay whose directory is gone.
func (s *state) deleted(id string) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketRetired).Delete([]byte(id)) })
}

// rename gives a record another name.
func (s *state) rename(r *record, to string) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketVolumes)
		if b.Get([]byte(to)) != nil {
			return fmt.Errorf("%q: %w", to, ErrExist)
		}
		if err := b.Delete([]byte(r.Name)); err != nil {
			return err
		}
		r.Name = to
		return putRecord(tx, bucketVolumes, to, r)
	})
}

// trash takes a volume out of the list; purge forgets it for good; restore takes it back.
func (s *state) trash(r *record) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(bucketVolumes).Delete([]byte(r.Name)); err != nil {
			return err
		}
		return putRecord(tx, bucketTrash, r.ID, r)
	})
}

func (s *state) inTrash(id string) (there bool, _ error) {
	return there, s.db.View(func(tx *bolt.Tx) error {
		there = tx.Bucket(bucketTrash).Get([]byte(id)) != nil
		return nil
	})
}

func (s *state) purge(id string) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketTrash).Delete([]byte(id)) })
}

func (s *state) restore(r *record) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketVolumes).Get([]byte(r.Name)) != nil {
			return fmt.Errorf("%q: %w", r.Name, ErrExist)
		}
		if err := tx.Bucket(bucketTrash).Delete([]byte(r.ID)); err != nil {
			return err
		}
		return putRecord(tx, bucketVolumes, r.Name, r)
	})
}

// users lists who has a volume mounted, in order.
func (r *record) users() []string { return slices.Sorted(maps.Keys(r.Users)) }
