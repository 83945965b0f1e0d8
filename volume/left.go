package volume

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// bucketLeft says which users are gone: when one had mounted, by the volume's ID and his name. It is written to by who has
// not got the volume's lock, and read with each record. A mount that is made later is another one.
var bucketLeft = []byte("left")

// Leave records that a user of a volume is gone, who does not ask again, and reports whether he has it mounted still: who
// asks for him by a name, as [Mount] has it, and asked several times is told so until the last. Otherwise his mount is
// over whatever happens then. It waits for no other operation. The changes are committed by [Unmount] with Gone, by the
// next operation on the volume that needs that, or by the next process.
func (m *Manager) Leave(name, user, by string) (stays bool, err error) {
	return m.endOnce(name, user, by, times{})
}

// endOnce has a user have a volume mounted once less. If that mount is taken back, and made those of somebody else void,
// they are what they were.
func (m *Manager) endOnce(name, user, by string, were times) (stays bool, err error) {
	var r *record
	err = m.withReserve(func() error {
		err := m.step(StepLeft)
		if err == nil {
			r, stays, err = m.db.leave(name, user, by, were)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("unmount %s: %w", name, err)
	}
	if len(r.Users) == 0 && r.Overlay != nil {
		m.endLease(r, true)
	}
	m.suspect(r)
	return stays, nil
}

// takeBack ends a mount that was just made, and nobody waits for. It is called with the volume's lock.
func (m *Manager) takeBack(r *record, user, by string, were times) {
	stays, err := m.endOnce(r.Name, user, by, were)
	if err != nil {
		m.log.Warn("a mount that nobody waits for is not ended", logVolume, r.Name, logError, err)
	}
	if err != nil || stays {
		return
	}
	delete(r.Users, user)
	if len(r.Users) == 0 {
		m.tryLater(r.Name)
	}
}

// leave returns what is recorded once a user is gone, or has it mounted once less.
func (s *state) leave(name, user, by string, were times) (r *record, stays bool, err error) {
	err = s.db.Update(func(tx *bolt.Tx) error {
		if r, err = readRecord(tx, name); err != nil {
			return err
		}
		since, has := r.Users[user]
		if !has {
			return nil
		}
		var t times
		if t, stays = timesOf(tx, r.ID, user, since).fewer(by); !stays && were.n > 0 && were.by != by {
			t, stays = were, true
		}
		if stays {
			return putTimes(tx, r.ID, user, since, t)
		}
		delete(r.Users, user)
		if err := tx.Bucket(bucketTimes).Delete(keyOf(r.ID, user)); err != nil {
			return err
		}
		return tx.Bucket(bucketLeft).Put(keyOf(r.ID, user), stamp(since))
	})
	return r, stays, err
}

// keyOf is the key of what is recorded of a volume's user, beside the volume's record.
func keyOf(id, user string) []byte { return append(keysOf(id), user...) }

// keysOf begins the keys of all users of a volume.
func keysOf(id string) []byte { return append([]byte(id), '/') }

// stamp begins what is recorded of a user with the time since when he has the volume mounted: it is not about a mount that
// he makes later.
func stamp(since time.Time) []byte { return since.UTC().AppendFormat(nil, time.RFC3339Nano) }

func isSince(v []byte, since time.Time) bool {
	at, _, _ := bytes.Cut(v, []byte(" "))
	return bytes.Equal(at, stamp(since))
}

// eachUser calls f for each user of whom something is recorded in a bucket.
func eachUser(tx *bolt.Tx, bucket []byte, id string, f func(user string, v []byte)) {
	b := tx.Bucket(bucket)
	if b == nil {
		return // a state that an older program made, and that is only read
	}
	prefix, c := keysOf(id), b.Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		f(string(k[len(prefix):]), v)
	}
}

// withoutLeft takes those out of a record, as it is written, who are gone.
func withoutLeft(tx *bolt.Tx, r *record) {
	if len(r.Users) == 0 {
		return
	}
	eachUser(tx, bucketLeft, r.ID, func(user string, since []byte) {
		if at, has := r.Users[user]; has && isSince(since, at) {
			delete(r.Users, user)
		}
	})
}

// withUsers is a record with users of its own.
func withUsers(r *record) record {
	next := *r
	next.Users = map[string]time.Time{}
	maps.Copy(next.Users, r.Users)
	return next
}

// forgetUsers forgets what is recorded of those who are not among the users of a volume any more.
func forgetUsers(tx *bolt.Tx, id string, users map[string]time.Time) error {
	var errs []error
	for _, bucket := range [][]byte{bucketLeft, bucketTimes} {
		var gone []string
		eachUser(tx, bucket, id, func(user string, v []byte) {
			if at, has := users[user]; !has || !isSince(v, at) {
				gone = append(gone, user)
			}
		})
		for _, user := range gone {
			errs = append(errs, tx.Bucket(bucket).Delete(keyOf(id, user)))
		}
	}
	return errors.Join(errs...)
}

func isContainer(user string) bool { return strings.HasPrefix(user, ContainerUser) }

func isNoContainer(user string) bool { return !isContainer(user) }

// hasContainers reports whether an engine has a volume mounted.
func (r *record) hasContainers() bool { return slices.ContainsFunc(r.users(), isContainer) }

func mounted(r *record) error {
	hint := ""
	if r.hasContainers() {
		hint = fmt.Sprintf("\nstop its containers: `docker ps --filter volume=%s`", r.Name)
	}
	if slices.ContainsFunc(r.users(), isNoContainer) {
		hint += fmt.Sprintf("\nunmount it first: `volary volume umount %s`", r.Name)
	}
	return fmt.Errorf("%s, by %s: %w%s", r.Name, strings.Join(r.users(), ", "), ErrMounted, hint)
}
