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
// by ID, "retired" the IDs of overlays whose directories are to be deleted; bucketLeft has who is gone, bucketTimes
// how often who is there mounted.
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
	Options  map[string]string    `json:"options,omitempty"` // that were set on this host
	Tags     map[string]CID       `json:"tags,omitempty"`
	Overlay  *overlayRecord       `json:"overlay,omitempty"`
	Users    map[string]time.Time `json:"users,omitempty"` // who has it mounted, and since when
	Removed  time.Time            `json:"removed,omitzero"`
	Key      *Key                 `json:"key,omitempty"` // if the volume was given one

	ContainersBoot string `json:"containers_boot,omitempty"` // the boot in which the containers among the users mounted it

	KeepLast int `json:"keep_last,omitempty"` // so many states are kept whole on this host

	// Options that go with the volume: what the commit SaidIn says of them, which is the head once that is here, and the
	// keys of those that were set here and that no commit says yet.
	Said   map[string]string `json:"said,omitempty"`
	SaidIn CID               `json:"said_in,omitzero"`
	Unsaid []string          `json:"unsaid,omitempty"`

	// Awaited is the commit, if it still is the head, that not as many peers of the cluster are known to hold as are to.
	Awaited CID `json:"awaited,omitzero"`

	// What other hosts are to be told, beside where the volume is.
	Renamed bool `json:"renamed,omitempty"`
	Revived bool `json:"revived,omitempty"` // after it was removed
	// Told says of one that is removed that others know, or did it.
	Told bool `json:"told,omitempty"`

	last *At // what lastTold returns, once that is known; nil: it is to be asked
}

// overlayRecord is a directory of changes and the snapshot they are on.
type overlayRecord struct {
	ID       string `json:"id"`
	Base     CID    `json:"base"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Follow   bool   `json:"follow,omitempty"` // each new state of the volume becomes the base
	Full     bool   `json:"full,omitempty"`
	Tmpfs    bool   `json:"tmpfs,omitempty"`
	Unused   bool   `json:"unused,omitempty"` // nobody had it mounted yet
	Boot     string `json:"boot"`             // the boot in which what is remembered of its files was last known to be true
}

// state is the database. Each change is one transaction, durable when it returns.
type state struct{ db *bolt.DB }

func openState(path string) (*state, error) {
	db, err := statedb.Open(path, stateVersion, bucketVolumes, bucketTrash, bucketRetired, bucketLeft, bucketTimes)
	if err != nil {
		return nil, err
	}
	return &state{db}, nil
}

func (s *state) close() error { return s.db.Close() }

func (s *state) get(name string) (r *record, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		r, err = readRecord(tx, name)
		return err
	})
	return r, err
}

func readRecord(tx *bolt.Tx, name string) (*record, error) {
	b := tx.Bucket(bucketVolumes).Get([]byte(name))
	if b == nil {
		return new(record), fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	return decodeRecord(tx, b)
}

// decodeRecord returns a record without those users who are gone.
func decodeRecord(tx *bolt.Tx, b []byte) (*record, error) {
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return r, err
	}
	withoutLeft(tx, r)
	return r, nil
}

// list returns the records of a bucket in the order of its keys.
func (s *state) list(bucket []byte) (rs []*record, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(_, b []byte) error {
			r, err := decodeRecord(tx, b)
			rs = append(rs, r)
			return err
		})
	})
	return rs, err
}

func (s *state) put(r *record) error {
	return s.db.Update(func(tx *bolt.Tx) error { return putRecord(tx, bucketVolumes, r.Name, r) })
}

func putRecord(tx *bolt.Tx, bucket []byte, key string, r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := forgetUsers(tx, r.ID, r.Users); err != nil {
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
			r.Created, r.Options, r.Unsaid, r.Tags, r.Key = was.Created, was.Options, was.Unsaid, was.Tags, was.Key
			if !r.SaidIn.Defined() {
				r.Said, r.SaidIn = was.Said, was.SaidIn
			}
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
		now, err := decodeRecord(tx, b)
		if err != nil || now.ID != r.ID || !now.Removed.Equal(r.Removed) {
			return err
		}
		now.Renamed, now.Revived, now.Told = r.Renamed, r.Revived, r.Told
		return putRecord(tx, bucket, key, now)
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

func (s *state) retired() (ids []string, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketRetired).ForEach(func(k, _ []byte) error {
			ids = append(ids, string(k))
			return nil
		})
	})
	return ids, err
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

func (s *state) inTrash(id string) (there bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		there = tx.Bucket(bucketTrash).Get([]byte(id)) != nil
		return nil
	})
	return there, err
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

// rekey records what change makes of the records that it changes.
func (s *state) rekey(change func(*record) bool) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, bucket := range [][]byte{bucketVolumes, bucketTrash} {
			type entry struct {
				key, id string
				r       *record
			}
			var changed []entry
			err := tx.Bucket(bucket).ForEach(func(k, b []byte) error {
				r, err := decodeRecord(tx, b)
				if err != nil {
					return err
				}
				if id := r.ID; change(r) {
					changed = append(changed, entry{string(k), id, r})
				}
				return nil
			})
			if err != nil {
				return err
			}
			for _, e := range changed {
				key := e.r.Name
				if string(bucket) == string(bucketTrash) {
					key = e.r.ID
				}
				if err := tx.Bucket(bucket).Delete([]byte(e.key)); err != nil {
					return err
				}
				if err := forgetUsers(tx, e.id, nil); err != nil {
					return err
				}
				if err := putRecord(tx, bucket, key, e.r); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
