package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/outbox"
	"github.com/volary/volary/pinset/pinsettest"
)

var errAway = errors.New("the set is away")

// call is what the set was told, and when.
type call struct {
	what string
	at   time.Time
}

// faulty is a set that can be away.
type faulty struct {
	*pinsettest.Memory

	mu      sync.Mutex
	answer  func(op string, root cid.Cid) error // nil, or asked before anything is done
	calls   []call
	names   map[cid.Cid]string
	working int
	most    int
}

func newFaulty() *faulty {
	return &faulty{Memory: pinsettest.NewMemory(), names: map[cid.Cid]string{}}
}

// root returns the root of a name, by which it is then shown.
func (f *faulty) root(name string) cid.Cid {
	n := 0
	for _, r := range name {
		n = n*131 + int(r)
	}
	root := pinsettest.Root(n)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names[root] = name
	return root
}

func (f *faulty) setAnswer(answer func(op string, root cid.Cid) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *faulty) away(away bool) {
	if away {
		f.setAnswer(func(string, cid.Cid) error { return errAway })
	} else {
		f.setAnswer(nil)
	}
}

func (f *faulty) tell(op string, root cid.Cid) error {
	f.mu.Lock()
	f.calls = append(f.calls, call{op + " " + f.names[root], time.Now()})
	f.working++
	f.most = max(f.most, f.working)
	answer := f.answer
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.working--
		f.mu.Unlock()
	}()
	if answer == nil {
		return nil
	}
	return answer(op, root)
}

func (f *faulty) Add(ctx context.Context, p pinset.Pin) error {
	if err := f.tell("pin", p.Root); err != nil {
		return err
	}
	return f.Memory.Add(ctx, p)
}

func (f *faulty) Remove(ctx context.Context, root cid.Cid, owner string) error {
	if err := f.tell("unpin", root); err != nil {
		return err
	}
	return f.Memory.Remove(ctx, root, owner)
}

func (f *faulty) told() (words []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		words = append(words, c.what)
	}
	return words
}

// pinned lists the names of what the set has.
func (f *faulty) pinned(t testing.TB) (names []string) {
	t.Helper()
	for p, err := range f.All(context.Background()) {
		check(t, err)
		f.mu.Lock()
		names = append(names, f.names[p.Root])
		f.mu.Unlock()
	}
	slices.Sort(names)
	return names
}

// box is a queue in a directory, before a faulty set.
type box struct {
	*outbox.Queue
	t    testing.TB
	path string
	set  *faulty
	o    outbox.Options
}

func newBox(t testing.TB, o outbox.Options) *box {
	t.Helper()
	b := &box{t: t, path: filepath.Join(t.TempDir(), "outbox.db"), set: newFaulty(), o: o}
	b.o.Set = b.set
	b.open()
	t.Cleanup(func() { b.Queue.Close() })
	return b
}

func (b *box) open() {
	b.t.Helper()
	var err error
	b.Queue, err = outbox.Open(b.path, b.o)
	check(b.t, err)
}

func (b *box) restart() {
	b.t.Helper()
	check(b.t, b.Close())
	b.open()
}

func (b *box) put(e outbox.Entry) {
	b.t.Helper()
	check(b.t, b.Put(context.Background(), e))
}

func (b *box) pin(name, group string) { b.t.Helper(); b.put(b.pinOf(name, group)) }

func (b *box) keep(name, group string) {
	b.t.Helper()
	e := b.pinOf(name, group)
	e.Keep = true
	b.put(e)
}

func (b *box) pinOf(name, group string) outbox.Entry {
	return outbox.Entry{Op: outbox.Pin, Pin: pinset.Pin{Root: b.set.root(name), Name: name}, Group: group}
}

func (b *box) unpin(name, group string) {
	b.t.Helper()
	b.put(outbox.Entry{Op: outbox.Unpin, Pin: pinset.Pin{Root: b.set.root(name)}, Group: group})
}

func (b *box) wantTold(want ...string) {
	b.t.Helper()
	if got := b.set.told(); !slices.Equal(got, want) {
		b.t.Errorf("the set was told %q, want %q", got, want)
	}
}

func (b *box) wantPinned(want ...string) {
	b.t.Helper()
	if got := b.set.pinned(b.t); !slices.Equal(got, want) {
		b.t.Errorf("pinned: %q, want %q", got, want)
	}
}

// show tells what waits in few words.
func (b *box) show() (lines []string) {
	for _, w := range b.Waiting() {
		b.set.mu.Lock()
		line := fmt.Sprintf("%s %s", w.Op, b.set.names[w.Pin.Root])
		b.set.mu.Unlock()
		if w.Attempts > 0 {
			line += fmt.Sprintf(" failed %d", w.Attempts)
		}
		if w.Held {
			line += " held"
		}
		lines = append(lines, line)
	}
	return lines
}

func (b *box) wantWaiting(want ...string) {
	b.t.Helper()
	if got := b.show(); !slices.Equal(got, want) {
		b.t.Errorf("waiting: %q, want %q", got, want)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
