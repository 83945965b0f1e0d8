package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/outbox"
	"github.com/volary/volary/pinset/pinsettest"
)

// The environment makes the test binary a process that is killed: where it works, with which wish it begins, and at
// which step, taken how often, it is killed.
const (
	envDir  = "OUTBOX_DIR"
	envFrom = "OUTBOX_FROM"
	envKill = "OUTBOX_KILL"
)

func TestMain(m *testing.M) {
	if os.Getenv(envDir) == "" {
		os.Exit(m.Run())
	}
	if err := child(context.Background(), os.Getenv(envDir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// files is a set that outlives the process: a file for each pin. Every third call fails, after it did what it should.
type files struct {
	*pinsettest.Memory
	dir   string
	calls atomic.Int64
}

func (f *files) answer(err error) error {
	if f.calls.Add(1)%3 == 0 {
		return errors.Join(errAway, err)
	}
	return err
}

func (f *files) Add(_ context.Context, p pinset.Pin) error {
	return f.answer(os.WriteFile(filepath.Join(f.dir, p.Root.String()), nil, 0o600))
}

func (f *files) Remove(_ context.Context, root cid.Cid, _ string) error {
	err := os.Remove(filepath.Join(f.dir, root.String()))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return f.answer(err)
}

// wish is the nth of many; those of a multiple of four are tags, which stay.
func wish(n int) outbox.Entry {
	e := outbox.Entry{Op: outbox.Pin, Pin: pinset.Pin{Root: pinsettest.Root(n)}, Group: "v"}
	switch n % 4 {
	case 0:
		e.Keep = true
	case 3:
		e.Op, e.Pin.Root = outbox.Unpin, pinsettest.Root(n-2)
	}
	return e
}

// lastWish is the number of wishes; the last one is the newest state of the group.
const lastWish = 26

func child(ctx context.Context, dir string) error {
	label, count, _ := strings.Cut(os.Getenv(envKill), ":")
	var left atomic.Int64
	n, _ := strconv.Atoi(count)
	left.Store(int64(n))
	q, err := outbox.Open(filepath.Join(dir, "outbox.db"), outbox.Options{
		Set: &files{Memory: pinsettest.NewMemory(), dir: filepath.Join(dir, "pins")}, Interval: time.Millisecond, MinBackoff: time.Millisecond,
		Step: func(reached string) error {
			if reached == label && left.Add(-1) == 0 {
				self, err := os.FindProcess(os.Getpid())
				if err == nil {
					err = self.Kill()
				}
				return errors.Join(err, errors.New("killed"))
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	from, err := strconv.Atoi(os.Getenv(envFrom))
	if err != nil {
		return err
	}
	for i := from; i <= lastWish; i++ {
		if err := q.Put(ctx, wish(i)); err != nil {
			return err
		}
		fmt.Println(i)
	}
	for {
		if err := q.Drain(ctx); !errors.Is(err, outbox.ErrWaiting) {
			return errors.Join(err, q.Close())
		}
	}
}

// runChild runs a process and returns the last wish that it was told is recorded.
func runChild(t *testing.T, dir string, from int, kill string) (last int, killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envDir+"="+dir, fmt.Sprint(envFrom, "=", from), envKill+"="+kill)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	killed = cmd.ProcessState != nil && cmd.ProcessState.String() == "signal: killed"
	if err != nil && !killed {
		t.Fatal(err)
	}
	last = from - 1
	for word := range strings.FieldsSeq(string(out)) {
		last, err = strconv.Atoi(word)
		check(t, err)
	}
	return last, killed
}

func TestKilledAtAnyStepNoWishIsLost(t *testing.T) {
	for _, label := range []string{outbox.StepQueue, outbox.StepSend, outbox.StepRetry, outbox.StepDone} {
		for _, n := range []int{1, 2, 5} {
			kill := fmt.Sprint(label, ":", n)
			dir := t.TempDir()
			check(t, os.Mkdir(filepath.Join(dir, "pins"), 0o700))
			last, killed := runChild(t, dir, 1, kill)
			if !killed {
				t.Fatalf("%s: was not killed", kill)
			}
			if last, killed = runChild(t, dir, last+1, ""); killed || last != lastWish {
				t.Fatalf("%s: ended at wish %d", kill, last)
			}
			wantFiles(t, kill, filepath.Join(dir, "pins"))
		}
	}
}

// wantFiles wants the tags and the newest state, and nothing that was unpinned; others may have been replaced or not.
func wantFiles(t *testing.T, kill, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var pinned []string
	for _, e := range entries {
		pinned = append(pinned, e.Name())
	}
	for n := 1; n <= lastWish; n++ {
		has := slices.Contains(pinned, pinsettest.Root(n).String())
		if (n%4 == 0 || n == lastWish) && !has {
			t.Errorf("%s: wish %d is lost", kill, n)
		}
		if n%4 == 1 && n+2 <= lastWish && has {
			t.Errorf("%s: wish %d is still pinned", kill, n)
		}
	}
}
