package volume_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// pausing is a Pauser of nobody that tells what is done with it.
type pausing struct {
	calls     []string
	refuse    error
	broken    error
	meanwhile func()
}

func (p *pausing) Pause(_ context.Context, mount string) (func() error, error) {
	if p.refuse != nil {
		return nil, p.refuse
	}
	p.calls = append(p.calls, "pause "+filepath.Base(mount))
	if p.meanwhile != nil {
		p.meanwhile()
	}
	return func() error {
		p.calls = append(p.calls, "resume")
		return p.broken
	}, nil
}

// wrote commits a change of a file, or no change.
func (h *host) wrote(dir, content string, op volume.Commit) (volume.Result, error) {
	h.t.Helper()
	if content != "" {
		h.write(filepath.Join(dir, "a"), content)
	}
	op.Name = "data"
	return h.Do(h.t.Context(), &op)
}

func newPausedHost(t *testing.T, p volume.Pauser) (h *host, dir string) {
	t.Helper()
	h = newHost(t, mounttest.NewCopies())
	h.pauser = p
	h.restart()
	h.do(&volume.Create{Name: "data"})
	return h, h.do(&volume.Mount{Name: "data"}).Path
}

func TestAPausedCommitIsOfTheTimeOfThePause(t *testing.T) {
	p := &pausing{}
	h, dir := newPausedHost(t, p)
	p.meanwhile = func() { h.write(filepath.Join(dir, "b"), "written while others were being stopped") }
	res, err := h.wrote(dir, "1", volume.Commit{Pause: true})
	h.must(err)
	if res.Consistency != snapshot.Paused || h.commitOf(res.Commit.Cid).Consistency != snapshot.Paused {
		t.Errorf("the commit says it is %q", res.Consistency)
	}
	h.wantFiles("data", files{"a": "1", "b": "written while others were being stopped"})
	if want := []string{"pause copy", "resume"}; !cmp.Equal(p.calls, want) {
		t.Errorf("calls %q, want %q", p.calls, want)
	}
}

func TestNobodyIsPausedWithoutNeed(t *testing.T) {
	p := &pausing{}
	h, dir := newPausedHost(t, p)
	for _, c := range []struct {
		content string
		op      volume.Commit
		want    snapshot.Consistency
	}{
		{"1", volume.Commit{}, snapshot.Live},
		{"", volume.Commit{Pause: true}, ""}, // no change, no commit
		{"2", volume.Commit{Pause: true, Hooks: volume.Hooks{Before: "true"}}, snapshot.Hook},
	} {
		res, err := h.wrote(dir, c.content, c.op)
		h.must(err)
		if res.Consistency != c.want || len(p.calls) > 0 {
			t.Errorf("%+v: %q, %q", c, res.Consistency, p.calls)
		}
	}
	h.write(filepath.Join(dir, "a"), "3")
	h.do(&volume.Unmount{Name: "data"})
	if got := h.commitOf(h.resolve("data")).Consistency; got != snapshot.Clean || len(p.calls) > 0 {
		t.Errorf("after the unmount: %q, %q", got, p.calls)
	}
}

func TestAPauseThatCannotBeIsAnErrorAndChangesNothing(t *testing.T) {
	refusal := fmt.Errorf("%w: sh (1) is in the root cgroup", volume.ErrCannotPause)
	for _, p := range []volume.Pauser{nil, &pausing{refuse: refusal}} {
		h, dir := newPausedHost(t, p)
		before := h.resolve("data")
		if _, err := h.wrote(dir, "1", volume.Commit{Pause: true}); !errors.Is(err, volume.ErrCannotPause) || h.resolve("data") != before {
			t.Errorf("%v, and the head is at %s", err, h.resolve("data"))
		}
		h.do(&volume.Commit{Name: "data"})
		h.wantFiles("data", files{"a": "1"})
	}
}

func TestACommitDuringWhichSomebodyWentOnSaysSo(t *testing.T) {
	p := &pausing{broken: errors.New("they went on")}
	h, dir := newPausedHost(t, p)
	res, err := h.wrote(dir, "1", volume.Commit{Pause: true})
	h.must(err)
	if res.Consistency != snapshot.Live || h.commitOf(res.Commit.Cid).Consistency != snapshot.Live {
		t.Errorf("the commit says it is %q", res.Consistency)
	}
}

func TestCommitsOnAnIntervalPauseWhereTheyCan(t *testing.T) {
	for _, c := range []struct {
		name, pause string
		pauser      volume.Pauser
		want        snapshot.Consistency
	}{
		{"can", "", &pausing{}, snapshot.Paused},
		{"cannot", "", &pausing{refuse: volume.ErrCannotPause}, snapshot.Live},
		{"without a pauser", "", nil, snapshot.Live},
		{"must not", "false", &pausing{}, snapshot.Live},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, dir := newPausedHost(t, c.pauser)
			h.do(&volume.Set{Name: "data", Options: map[string]string{"commit": "1s", "pause": c.pause}})
			h.write(filepath.Join(dir, "a"), "1")
			before := h.resolve("data")
			recorded := make(chan struct{})
			ctx, stop := context.WithCancel(t.Context())
			h.step = func(label string) error {
				if label == volume.StepHead {
					close(recorded)
				}
				return nil
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				h.Run(ctx)
			}()
			<-recorded
			stop()
			<-done
			h.step = nil
			if head := h.resolve("data"); head == before || h.commitOf(head).Consistency != c.want {
				t.Errorf("the head says it is %q, want %q", h.commitOf(head).Consistency, c.want)
			}
		})
	}
}
