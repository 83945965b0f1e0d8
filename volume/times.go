package volume

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
)

// bucketTimes says how often a user has a volume mounted, if who asks for him ends it as often: by the volume's ID and the
// user's name. It is beside the records as an unmount waits for nobody who has the volume's lock, and writes the record.
var bucketTimes = []byte("times")

// times is how often a user has a volume mounted.
type times struct {
	n  int
	by string // who asked for it, each time
}

// timesOf are those of a user who has it mounted since then. One of whom nothing is recorded was not asked for by anybody
// who is known.
func timesOf(tx *bolt.Tx, id, user string, since time.Time) times {
	v := tx.Bucket(bucketTimes).Get(keyOf(id, user))
	if !isSince(v, since) {
		return times{n: 1}
	}
	_, rest, _ := bytes.Cut(v, []byte(" "))
	number, by, _ := bytes.Cut(rest, []byte(" "))
	n, err := strconv.Atoi(string(number))
	if err != nil || n < 1 {
		return times{n: 1}
	}
	return times{n, string(by)}
}

// again is what is recorded when somebody asks once more. A process of an engine ends what it asked for itself, and asks
// anew for what one before it did.
func (t times) again(by string) times {
	if t.by != "" && t.by != by {
		return times{1, by}
	}
	return times{t.n + 1, by}
}

// fewer is what is recorded when somebody ends it once; stays is whether it is mounted then.
func (t times) fewer(by string) (_ times, stays bool) {
	if t.by != by {
		return times{}, false
	}
	t.n--
	return t, t.n > 0
}

// times are those of a user.
func (s *state) times(id, user string, since time.Time) (t times, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		t = timesOf(tx, id, user, since)
		return nil
	})
	return t, err
}

func putTimes(tx *bolt.Tx, id, user string, since time.Time, t times) error {
	return tx.Bucket(bucketTimes).Put(keyOf(id, user), fmt.Appendf(stamp(since), " %d %s", t.n, t.by))
}

// errNoChange ends a transaction that has nothing to write.
var errNoChange = errors.New("no change")

// used is an overlay that somebody has mounted.
func used(o *overlayRecord) *overlayRecord {
	if o == nil || !o.Unused {
		return o
	}
	next := *o
	next.Unused = false
	return &next
}

// addUser records that a user has a volume mounted. It returns how often he had, and whether that is fewer. Who has left
// since the record was read has it mounted no more.
func (s *state) addUser(r *record, user, by string, now time.Time) (was times, added bool, _ error) {
	next := withUsers(r)
	err := s.db.Update(func(tx *bolt.Tx) error {
		withoutLeft(tx, &next)
		since, has := next.Users[user]
		if has && by == "" {
			return errNoChange
		}
		t := times{1, by}
		if has {
			was = timesOf(tx, r.ID, user, since)
			t = was.again(by)
		} else {
			since, next.Users[user] = now, now
			next.Overlay = used(next.Overlay)
			if err := putRecord(tx, bucketVolumes, r.Name, &next); err != nil || by == "" {
				return err
			}
		}
		return putTimes(tx, r.ID, user, since, t)
	})
	if err != nil && !errors.Is(err, errNoChange) {
		return was, false, err
	}
	*r = next
	return was, err == nil, nil
}
