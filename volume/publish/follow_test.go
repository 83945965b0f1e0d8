package publish_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/volume"
)

// run has a host do what it does by itself, until the function it returns is called.
func (h *host) run() (end func()) {
	ctx, done := context.WithCancel(h.t.Context())
	var work sync.WaitGroup
	work.Go(func() { h.Run(ctx) })
	return sync.OnceFunc(func() {
		done()
		work.Wait()
	})
}

// until waits for something to become so.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("it is never so that %s", what)
		}
	}
}

// knows waits until a host that runs knows which heads of a volume there are: only later ones are new to it.
func (h *host) knows(name string) {
	h.t.Helper()
	h.do(&volume.Follow{Name: name, Last: 1})
	h.until("it follows "+name, func() bool {
		f := h.info(name).Following
		return f != nil && f.Kept == 1
	})
	h.do(&volume.Follow{Name: name})
}

func content(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// follower is a host that follows a volume of another one.
func follower(t *testing.T) (w *world, writer, reader *host) {
	t.Helper()
	w = newWorld(t)
	writer, reader = w.host(), w.host()
	reader.close()
	reader.again = 20 * time.Millisecond
	reader.open()
	writer.do(&volume.Create{Name: "data"})
	writer.change("data", "f", "1")
	reader.learn()
	return w, writer, reader
}

func TestAMountThatFollowsShowsWhatAnotherHostMade(t *testing.T) {
	w, a, b := follower(t)
	end := b.run()
	defer func() { end() }()
	res := b.do(&volume.Mount{Name: "data", Follow: true})
	if got := content(filepath.Join(res.Path, "f")); got != "1" {
		t.Errorf("mounted: %q", got)
	}
	if _, err := b.Do(t.Context(), &volume.Mount{Name: "data", User: "other"}); err == nil {
		t.Error("what is followed is mounted for writing as well")
	}
	for i := 2; i < 5; i++ {
		state := a.change("data", "f", fmt.Sprint(i))
		b.learn()
		w.until("the mount shows "+fmt.Sprint(i), func() bool { return content(filepath.Join(res.Path, "f")) == fmt.Sprint(i) })
		w.until("that is told", func() bool {
			info := b.info("data")
			return info.Following != nil && info.Following.Shown.Cid == state && info.Head.Cid == state && !*info.Dirty
		})
	}
	w.until("what is shown is kept, and nothing else", func() bool { return slices.Equal(b.followPins(), []string{"5"}) })
	// A process that begins anew goes on where this one was.
	end()
	b.close()
	b.open()
	w.must(b.Start(t.Context()))
	end = b.run()
	a.change("data", "f", "5")
	b.learn()
	w.until("the mount shows 5", func() bool { return content(filepath.Join(res.Path, "f")) == "5" })
	a.do(&volume.Remove{Name: "data"})
	b.learn()
	time.Sleep(100 * time.Millisecond)
	if got := content(filepath.Join(res.Path, "f")); got != "5" {
		t.Errorf("of a volume that is removed elsewhere the mount shows %q", got)
	}
	b.do(&volume.Unmount{Name: "data"})
	w.until("nothing of it is kept any more because it is followed", func() bool { return len(b.followPins()) == 0 })
	w.until("the state that it is at is kept", func() bool {
		for p, err := range b.keeps.All(t.Context()) {
			w.must(err)
			if strings.HasPrefix(p.Owner, volume.PinOwner) && p.Meta[volume.PinSequence] == "6" {
				return true
			}
		}
		return false
	})
}

// followPins are the sequences of the states that are kept because they are followed, in order.
func (h *host) followPins() (all []string) {
	for p, err := range h.keeps.All(h.t.Context()) {
		h.must(err)
		if strings.HasPrefix(p.Owner, volume.FollowOwner) {
			all = append(all, p.Meta[volume.PinSequence])
		}
	}
	slices.Sort(all)
	return all
}

func TestWhatCannotBeShownIsToldAndShownLater(t *testing.T) {
	w, a, b := follower(t)
	b.close()
	f := &far{Blocks: w.blocks, here: map[cid.Cid]bool{}}
	b.store = f
	b.open()
	defer b.run()()
	res := b.do(&volume.Mount{Name: "data", Follow: true})
	f.mu.Lock()
	f.away = true
	f.mu.Unlock()
	a.change("data", "f", "2")
	b.learn()
	w.until("it is told", func() bool {
		i := b.info("data")
		return i.Failure != nil && i.Failure.What == volume.FailedFollow
	})
	if got := content(filepath.Join(res.Path, "f")); got != "1" {
		t.Errorf("the mount shows %q", got)
	}
	f.mu.Lock()
	f.away = false
	f.mu.Unlock()
	a.change("data", "f", "3")
	b.learn()
	w.until("the next is shown", func() bool { return content(filepath.Join(res.Path, "f")) == "3" })
	w.until("nothing fails", func() bool { return b.info("data").Failure == nil })
	b.do(&volume.Unmount{Name: "data"})
}

func TestACommandIsRunForEachNewHead(t *testing.T) {
	w, a, b := follower(t)
	ran := filepath.Join(t.TempDir(), "ran")
	b.do(&volume.Set{Name: "data", Options: map[string]string{"exec-head": "echo $VOLARY_VOLUME $VOLARY_HEAD $VOLARY_SEQUENCE $VOLARY_MOUNTPOINT >>" + ran}})
	defer b.run()()
	b.knows("data")
	if got := content(ran); got != "" {
		t.Errorf("run for a head that is not new: %s", got)
	}
	state := a.change("data", "f", "2")
	b.learn()
	want := fmt.Sprintf("data %s 3", state)
	w.until("it ran: "+want, func() bool { return content(ran) == want })
	at := b.do(&volume.Mount{Name: "data", Follow: true}).Path
	state = a.change("data", "f", "3")
	b.learn()
	want += fmt.Sprintf("\ndata %s 4 %s", state, at)
	w.until("it ran: "+want, func() bool { return content(ran) == want })
	b.do(&volume.Unmount{Name: "data"})
	// A head that this host makes counts as well.
	state = b.change("data", "f", "4")
	want += fmt.Sprintf("\ndata %s 5", state)
	w.until("it ran: "+want, func() bool { return content(ran) == want })
	b.do(&volume.Rename{Name: "data", To: "other"})
	b.do(&volume.Set{Name: "other", Options: map[string]string{"exec-head": "echo wrong >&2; false"}})
	b.change("other", "f", "5")
	w.until("a failure is told", func() bool {
		f := b.info("other").Failure
		return f != nil && f.What == volume.FailedHook && strings.Contains(f.Error, "wrong")
	})
	b.do(&volume.Set{Name: "other", Options: map[string]string{"exec-head": "true"}})
	b.change("other", "f", "6")
	w.until("a success is told", func() bool { return b.info("other").Failure == nil })
}

func TestACommandIsRunForAVolumeThatHasJustGotAnotherName(t *testing.T) {
	w, a, b := follower(t)
	ran := filepath.Join(t.TempDir(), "ran")
	b.close()
	b.again = time.Hour // until it is looked again which names there are
	b.open()
	b.do(&volume.Set{Name: "data", Options: map[string]string{"exec-head": "echo $VOLARY_VOLUME $VOLARY_SEQUENCE >>" + ran}})
	defer b.run()()
	b.knows("data")
	b.do(&volume.Rename{Name: "data", To: "other"})
	a.change("data", "f", "2")
	b.learn()
	w.until("it ran", func() bool { return content(ran) == "other 3" })
}

func TestOfHeadsThatComeWhileACommandRunsTheNewestCounts(t *testing.T) {
	w, a, b := follower(t)
	dir := t.TempDir()
	b.do(&volume.Set{Name: "data", Options: map[string]string{
		"exec-head": fmt.Sprintf("echo $VOLARY_SEQUENCE >>%s/ran; while [ ! -e %s/go ]; do sleep 0.01; done", dir, dir),
	}})
	defer b.run()()
	b.knows("data")
	for i := 2; i < 7; i++ {
		a.change("data", "f", fmt.Sprint(i))
		b.learn()
		w.until("the first is run", func() bool { return content(dir+"/ran") == "3" })
	}
	w.must(os.WriteFile(dir+"/go", nil, 0o644))
	var ran string
	w.until("the newest is run", func() bool { ran = content(dir + "/ran"); return strings.HasSuffix(ran, "\n7") })
	// What it is told of only after the first command ends may be run for as well.
	if strings.HasPrefix(ran, "3\n4\n5\n") {
		t.Errorf("it ran for\n%s", ran)
	}
}

func TestTheLastStatesAreKeptAndOlderOnesLetGoOfAfterThat(t *testing.T) {
	w, a, b := follower(t)
	var mu sync.Mutex
	away := map[cid.Cid]bool{}
	b.whole = func(c cid.Cid) error {
		mu.Lock()
		defer mu.Unlock()
		if away[c] {
			return fmt.Errorf("%s: %w", c, errAway)
		}
		return nil
	}
	end := b.run()
	defer func() { end() }()
	if _, err := b.Do(t.Context(), &volume.Follow{Name: "data", Last: -1}); err == nil {
		t.Error("-1 states are kept")
	}
	b.do(&volume.Follow{Name: "data", Last: 2})
	is := func(want ...string) {
		t.Helper()
		w.until(fmt.Sprint("kept are ", want), func() bool { return slices.Equal(b.followPins(), want) })
	}
	is("1", "2")
	a.change("data", "f", "2")
	b.learn()
	is("2", "3")
	mu.Lock()
	state := a.change("data", "f", "3")
	away[state] = true
	mu.Unlock()
	b.learn()
	w.until("what lacks is told", func() bool {
		f := b.info("data").Following
		return f != nil && f.Last == 2 && f.Kept == 1 && strings.Contains(f.Lacks, "away")
	})
	is("2", "3")
	end() // and begins anew
	b.close()
	b.open()
	w.must(b.Start(t.Context()))
	end = b.run()
	mu.Lock()
	away[state] = false
	mu.Unlock()
	is("3", "4")
	w.until("all is kept", func() bool { f := b.info("data").Following; return f.Kept == 2 && f.Lacks == "" })
	for i := 4; i < 9; i++ {
		a.change("data", "f", fmt.Sprint(i))
	}
	b.learn()
	is("8", "9")
	b.do(&volume.Follow{Name: "data"})
	is()
	if f := b.info("data").Following; f != nil {
		t.Errorf("it is followed still: %+v", f)
	}
}

func TestAFollowerThatEndsAtAnyStepGoesOn(t *testing.T) {
	for _, label := range []string{volume.StepShown, volume.StepLetGo, volume.StepLast} {
		t.Run(label, func(t *testing.T) {
			w, a, b := follower(t)
			var mu sync.Mutex
			stopped := false
			b.close()
			b.step = func(at string) error {
				mu.Lock()
				defer mu.Unlock()
				if at == label || stopped {
					stopped = true
					return errAway // and nothing after that
				}
				return nil
			}
			b.open()
			end := b.run()
			res, err := b.Do(t.Context(), &volume.Mount{Name: "data", Follow: true})
			w.must(err)
			_, err = b.Do(t.Context(), &volume.Follow{Name: "data", Last: 1})
			if err != nil && label != volume.StepLast {
				t.Fatal(err)
			}
			a.change("data", "f", "2")
			b.learn()
			w.until("it ends at the step", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return stopped
			})
			end()
			b.close()
			b.step = nil
			b.open()
			w.must(b.Start(t.Context()))
			defer b.run()()
			b.do(&volume.Follow{Name: "data", Last: 1})
			w.until("the newest is shown", func() bool { return content(filepath.Join(res.Path, "f")) == "2" })
			w.until("the newest alone is kept", func() bool { return slices.Equal(b.followPins(), []string{"3"}) })
			if i := b.info("data"); i.Following.Shown != i.Head {
				t.Errorf("shown is %s, recorded %s", i.Head, i.Following.Shown)
			}
			b.do(&volume.Unmount{Name: "data"})
		})
	}
}
