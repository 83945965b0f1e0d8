package volume_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// ask mounts a volume for docker:1, or unmounts it, as a step says: 2+ is a mount that the process 2 asks for, 2- the end of
// one. A program that did not count asks as 0.
func (h *host) ask(name, step string) {
	h.t.Helper()
	by, what := strings.TrimPrefix(step[:1], "0"), step[1:]
	if what == "+" {
		h.do(&volume.Mount{Name: name, User: "docker:1", By: by})
		return
	}
	stays, err := h.Leave(name, "docker:1", by)
	h.must(err)
	if is := len(h.users(name)) > 0; stays != is {
		h.t.Errorf("at %s of %s it is said that it stays: %v, and it does: %v", step, name, stays, is)
	}
	h.do(&volume.Unmount{Name: name, Gone: true})
}

// asked is a host with a volume data after some steps.
func asked(t *testing.T, steps ...string) *host {
	t.Helper()
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	for _, step := range steps {
		h.ask("data", step)
	}
	return h
}

func TestWhoMountsSeveralTimesUnmountsSeveralTimes(t *testing.T) {
	cases := map[string]struct {
		steps string
		still bool
	}{
		"a-container":                           {"1+ 1-", false},
		"a-copy-from-one-that-runs":             {"1+ 1+ 1-", true},
		"its-end":                               {"1+ 1+ 1- 1-", false},
		"another-copy":                          {"1+ 1+ 1- 1+ 1-", true},
		"its-end-after-that":                    {"1+ 1+ 1- 1+ 1- 1-", false},
		"two-copies-at-once":                    {"1+ 1+ 1+ 1- 1-", true},
		"another-process":                       {"1+ 2+", true},
		"what-the-one-before-had":               {"1+ 2+ 2-", false},
		"a-copy-that-the-one-before-did":        {"1+ 1+ 2+ 2-", false},
		"and-that-was-the-last-it-did":          {"1+ 1+ 2-", false},
		"a-copy-that-the-next-one-does":         {"1+ 2+ 2+ 2-", true},
		"a-program-that-did-not-count":          {"0+ 1-", false},
		"a-copy-after-it":                       {"0+ 1+ 1-", true},
		"the-end-after-that":                    {"0+ 1+ 1- 1-", false},
		"the-same-again":                        {"1+ 1+ 1- 1- 1+ 1-", false},
		"an-end-of-what-is-not-there":           {"1+ 1- 1- 1+", true},
		"an-end-before-a-mount,-and-one-after":  {"1- 1+ 1+ 1-", true},
		"somebody-else-who-does-not-count-them": {"1+ 1+ 0-", false},
	}
	for how, between := range map[string]func(*host){"one process": func(*host) {}, "a process for each step": (*host).restart} {
		h := newHost(t, mounttest.NewCopies())
		for name := range cases {
			h.do(&volume.Create{Name: name})
		}
		for at, some := 0, true; some; at++ {
			some = false
			for name, c := range cases {
				if steps := strings.Fields(c.steps); at < len(steps) {
					some = true
					h.ask(name, steps[at])
				}
			}
			between(h)
		}
		for name, c := range cases {
			if users := h.users(name); len(users) > 0 != c.still {
				t.Errorf("%s: %s: after %s its users are %q", how, name, c.steps, users)
			}
		}
	}
}

func TestAStepThatIsNotDoneIsNotCounted(t *testing.T) {
	for _, c := range []struct {
		done        []string
		ended       string // the process at this step
		label       string
		after       []string
		stillIsThen bool
	}{
		{[]string{"1+"}, "1+", volume.StepUsers, []string{"1-"}, false},
		{[]string{"1+", "1+"}, "1-", volume.StepLeft, []string{"1-"}, true},
	} {
		h := asked(t, c.done...)
		h.step = func(label string) error {
			if label == c.label {
				return errCrash
			}
			return nil
		}
		var err error
		if c.ended == "1+" {
			_, err = h.Do(t.Context(), &volume.Mount{Name: "data", User: "docker:1", By: "1"})
		} else {
			_, err = h.Leave("data", "docker:1", "1")
		}
		if !errors.Is(err, errCrash) {
			t.Fatalf("after %s, %s does not end at %s: %v", c.done, c.ended, c.label, err)
		}
		h.step = nil
		h.restart()
		h.wantUsers("data", "docker:1")
		for _, step := range c.after {
			h.ask("data", step)
		}
		if still := len(h.users("data")) > 0; still != c.stillIsThen {
			t.Errorf("after %s, %s that ended at %s, and %s it is mounted: %v", c.done, c.ended, c.label, c.after, still)
		}
	}
}

func TestWhatWasMountedSeveralTimesEndsWithTheBoot(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.boot = "first"
	h.restart()
	h.do(&volume.Create{Name: "data"})
	for range 3 {
		h.do(&volume.Mount{Name: "data", User: "docker:1", By: "1"})
	}
	h.boot = "second"
	h.restart()
	h.wantUsers("data")
	h.do(&volume.Mount{Name: "data", User: "docker:1", By: "1"})
	if stays, err := h.Leave("data", "docker:1", "1"); stays || err != nil {
		t.Errorf("what was mounted in another boot counts: %v, %v", stays, err)
	}
}

// TestAMountWhileTheSameIsEndedIsOneOfItsOwn has a mount find its user, who leaves then, or counts beside who leaves.
func TestAMountWhileTheSameIsEndedIsOneOfItsOwn(t *testing.T) {
	for _, by := range []string{"", "1"} {
		for _, label := range []string{volume.StepMount, volume.StepUsers} {
			h := newHost(t, mounttest.NewCopies())
			h.do(&volume.Create{Name: "data"})
			mount := &volume.Mount{Name: "data", User: "docker:1", By: by}
			h.do(mount)
			h.step = func(l string) error {
				if l != label {
					return nil
				}
				stays, err := h.Leave("data", "docker:1", by)
				if stays || err != nil {
					t.Errorf("it stays: %v, %v", stays, err)
				}
				h.wantUsers("data")
				return nil
			}
			h.do(mount)
			h.step = nil
			h.do(&volume.Unmount{Name: "data", Gone: true})
			h.wantUsers("data", "docker:1")
			h.restart()
			h.wantUsers("data", "docker:1")
		}
	}
	h := asked(t, "1+", "1+")
	if stays, err := h.Leave("data", "docker:1", "1"); !stays || err != nil {
		t.Errorf("the first one takes the second along: %v, %v", stays, err)
	}
	h.wantUsers("data", "docker:1")
}

func TestAMountThatNobodyWaitsForLeavesTheUserAsHeWas(t *testing.T) {
	for steps, still := range map[string]bool{"": false, "1+": true, "2+": true, "0+": true} {
		h := asked(t, strings.Fields(steps)...)
		ctx, hangUp := context.WithCancel(t.Context())
		h.step = func(label string) error {
			if label == volume.StepUsers {
				hangUp()
			}
			return nil
		}
		if _, err := h.Do(ctx, &volume.Mount{Name: "data", User: "docker:1", By: "1"}); !errors.Is(err, context.Canceled) {
			t.Errorf("after %q: %v", steps, err)
		}
		h.step = nil
		h.do(&volume.Unmount{Name: "data", Gone: true})
		if is := len(h.users("data")) > 0; is != still {
			t.Errorf("after %q and a mount that nobody waited for users are %q", steps, h.users("data"))
		}
		if i, err := h.Describe(t.Context(), "data"); err != nil || i.Base.Defined() != still {
			t.Errorf("after %q its overlay is on %v, %v", steps, i.Base, err)
		}
	}
}

func TestWhatIsOverIsForgotten(t *testing.T) {
	for what, end := range map[string]func(*host){
		"they leave": func(h *host) {
			for range 2 {
				_, err := h.Leave("data", "docker:1", "1")
				h.must(err)
			}
			h.do(&volume.Unmount{Name: "data", Gone: true})
		},
		"they are unmounted": func(h *host) { h.do(&volume.Unmount{Name: "data", User: "docker:1"}) },
		"it is removed":      func(h *host) { h.do(&volume.Remove{Name: "data", Force: true}) },
		"another boot": func(h *host) {
			h.boot = "another"
			h.restart()
		},
	} {
		h := asked(t, "1+", "1+")
		end(h)
		h.inDatabase(func(tx *bolt.Tx) error {
			for _, bucket := range []string{"left", "times"} {
				if n := tx.Bucket([]byte(bucket)).Stats().KeyN; n > 0 {
					t.Errorf("%s: %s of %d users is kept", what, bucket, n)
				}
			}
			return nil
		})
	}
}

// inDatabase has f look at the database, and change it, while no process has it.
func (h *host) inDatabase(f func(*bolt.Tx) error) {
	h.t.Helper()
	h.close()
	db, err := bolt.Open(h.database(), 0o600, nil)
	h.must(err)
	h.must(db.Update(f))
	h.must(db.Close())
	h.open()
}

// TestWhatIsCountedOfAMountIsNotOfTheNext has a program that does not count end a mount, and make another one.
func TestWhatIsCountedOfAMountIsNotOfTheNext(t *testing.T) {
	h := asked(t, "1+", "1+", "1+")
	h.inDatabase(func(tx *bolt.Tx) error {
		var r map[string]any
		b := tx.Bucket([]byte("volumes"))
		h.must(json.Unmarshal(b.Get([]byte("data")), &r))
		r["users"] = map[string]time.Time{"docker:1": h.clock()}
		text, err := json.Marshal(r)
		return errors.Join(err, b.Put([]byte("data"), text))
	})
	h.must(h.Start(t.Context()))
	for _, step := range []string{"1+", "1-"} {
		h.ask("data", step)
		h.wantUsers("data", "docker:1")
	}
	h.ask("data", "1-")
	h.wantUsers("data")
}

func TestACountThatCannotBeReadIsOne(t *testing.T) {
	h := asked(t, "1+", "1+")
	h.inDatabase(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("times"))
		k, v := b.Cursor().First()
		since, _, _ := bytes.Cut(v, []byte(" "))
		return b.Put(slices.Clone(k), append(slices.Clone(since), " many"...))
	})
	h.ask("data", "1-")
	h.wantUsers("data")
}
