package publish_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
)

// options are those that KEY=VALUEs are.
func options(pairs ...string) map[string]string {
	all := map[string]string{}
	for _, p := range pairs {
		key, value, _ := strings.Cut(p, "=")
		all[key] = value
	}
	return all
}

func (h *host) set(pairs ...string) volume.Result {
	h.t.Helper()
	return h.do(&volume.Set{Name: "data", Options: options(pairs...)})
}

// wantOptions wants options of a volume, of which some were set on this host.
func (h *host) wantOptions(name string, want, set map[string]string) {
	h.t.Helper()
	i := h.info(name)
	if !maps.Equal(i.Options, want) || !maps.Equal(i.OptionsSet, set) {
		h.t.Errorf("%s has the options %v, %v of them set here; want %v and %v", name, i.Options, i.OptionsSet, want, set)
	}
}

func (w *world) commitAt(c cid.Cid) *snapshot.Commit {
	w.t.Helper()
	blk, err := w.blocks.Get(w.t.Context(), c)
	w.must(err)
	decoded, err := snapshot.DecodeCommit(blk)
	w.must(err)
	return decoded
}

// wantSaid wants the options that a volume's head says.
func (h *host) wantSaid(name string, want ...string) {
	h.t.Helper()
	got := []string{}
	for label, value := range h.commitAt(h.info(name).Head.Cid).Labels {
		got = append(got, strings.TrimPrefix(label, "volary.option.")+"="+value)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		h.t.Errorf("what the head of %s says:\n%s", name, diff)
	}
}

// made are two hosts, of which one made a volume with options and the other one knows that.
func made(t *testing.T, pairs ...string) (a, b *host) {
	t.Helper()
	w := newWorld(t)
	a, b = w.host(), w.host()
	a.holds = func(context.Context, cid.Cid) error { return nil }
	a.restart()
	a.do(&volume.Create{Name: "data", Options: options(pairs...)})
	b.learn()
	return a, b
}

// The options that go with a volume, and those that are a host's own.
var (
	theVolumes = []string{
		"chunker=size-65536", "commit=2s", "durability=cluster", "durability-timeout=3s", "exclude=*.tmp", "io-timeout=4s", "keep=last:5",
		"lower=full", "pause=false", "publish=true", "replicas=2-3", "size=10MiB", "trash=5h",
	}
	theHosts = []string{"exec-after=true", "exec-before=true", "exec-head=true", "exec-timeout=9s", "gid=0", "mode=700", "uid=0"}
)

func TestOptionsGoWithAVolumeToOtherHosts(t *testing.T) {
	a, b := made(t, slices.Concat(theVolumes, theHosts)...)
	a.wantSaid("data", theVolumes...)
	all := options(slices.Concat(theVolumes, theHosts)...)
	a.wantOptions("data", all, all)
	b.wantOptions("data", options(theVolumes...), nil)
	b.do(&volume.Mount{Name: "data"})
	b.wantOptions("data", options(theVolumes...), nil)
	b.do(&volume.Unmount{Name: "data"})
	b.change("data", "f", "one")
	b.wantSaid("data", theVolumes...)
	if ids, err := b.Published(); err != nil || len(ids) != 1 {
		t.Errorf("published are %v, %v", ids, err)
	}
	b.restart()
	b.wantOptions("data", options(theVolumes...), nil)
	i, err := b.Describe(t.Context(), "data")
	if err != nil || !maps.Equal(i.Options, options(theVolumes...)) {
		t.Errorf("described as %+v, %v", i, err)
	}
}

func TestEveryOptionIsEitherTheVolumesOrTheHosts(t *testing.T) {
	known := []string{"follow", "overlay", "readonly"} // what can be done with the volume on a host
	for _, pair := range slices.Concat(theVolumes, theHosts) {
		key, _, _ := strings.Cut(pair, "=")
		known = append(known, key)
	}
	slices.Sort(known)
	var all []string
	for line := range strings.Lines(volume.OptionHelp()) {
		all = append(all, strings.Fields(line)[0])
	}
	if diff := cmp.Diff(all, known); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsAHostsOwnDoesNotGoToOtherHosts(t *testing.T) {
	for _, pair := range []string{"readonly=true", "follow=true", "overlay=tmpfs"} {
		a, b := made(t, pair)
		a.wantSaid("data")
		b.wantOptions("data", nil, nil)
	}
}

func TestAnOptionThatANewerHeadChangesIsTakenOver(t *testing.T) {
	a, b := made(t, "commit=2s", "keep=last:5")
	b.change("data", "f", "one")
	b.set("commit=5m", "pause=false")
	b.wantOptions("data", options("commit=5m", "pause=false", "keep=last:5"), options("commit=5m", "pause=false"))
	head := b.change("data", "f", "two")
	b.wantSaid("data", "commit=5m", "keep=last:5", "pause=false")
	c := a.host()
	c.learn()
	c.change("data", "g", "three")
	c.wantOptions("data", options("commit=5m", "pause=false", "keep=last:5"), nil)

	a.learn()
	if got := a.info("data"); got.Head.Cid == head || got.Options["commit"] != "2s" || got.Options["pause"] != "false" {
		t.Errorf("who set an option has %v, not what it set itself", got.Options)
	}
	a.change("data", "f", "four")
	a.wantSaid("data", "commit=5m", "keep=last:5", "pause=false") // what was set last, wherever

	a.set("commit=")
	a.wantOptions("data", options("keep=last:5", "pause=false"), options("keep=last:5"))
	a.change("data", "f", "five")
	c.learn()
	c.change("data", "g", "six")
	c.wantOptions("data", options("keep=last:5", "pause=false"), nil)
	c.wantSaid("data", "commit=", "keep=last:5", "pause=false")
}

func TestACommitWithoutChangesSaysNothingOfOptions(t *testing.T) {
	a, b := made(t, "commit=2s")
	b.do(&volume.Mount{Name: "data"})
	before := b.info("data").Sequence
	if res := b.set("commit=5m"); res.Created || res.Note != "" {
		t.Errorf("without other hosts that are heard at once: %+v", res)
	}
	if res := b.do(&volume.Commit{Name: "data"}); res.Created || b.info("data").Sequence != before {
		t.Errorf("nothing was changed: %+v", res)
	}
	b.do(&volume.Unmount{Name: "data"})
	b.restart()
	b.change("data", "f", "one")
	b.wantSaid("data", "commit=5m")
	a.refused(&volume.Commit{Name: "data", Labels: map[string]string{"volary.option.commit": "1s"}}, volume.ErrInvalid)
	a.refused(&volume.Merge{Name: "data", Labels: map[string]string{"volary.": ""}}, volume.ErrInvalid)
	a.refused(&volume.Set{Name: "data", Options: map[string]string{"exclude": strings.Repeat("x", 5000)}}, volume.ErrInvalid)
	a.refused(&volume.Create{Name: "other", Options: map[string]string{"exclude": strings.Repeat("x", 5000)}}, volume.ErrInvalid)
}

func TestOtherHostsHearAtOnceOfWhatIsSetWhileNobodyElseWrites(t *testing.T) {
	a, b, _, ofB := leased(t)
	for _, mounted := range []bool{false, true} {
		if mounted {
			a.do(&volume.Mount{Name: "data"})
		}
		before := a.info("data")
		commit := map[bool]string{false: "commit=5m", true: "commit=6m"}[mounted]
		res := a.set(commit, "exec-head=true")
		after := a.info("data")
		if !res.Created || after.Sequence != before.Sequence+1 || !strings.Contains(res.Note, fmt.Sprint("data@", after.Sequence)) {
			t.Errorf("mounted %t: %+v", mounted, res)
		}
		if was, is := a.commitAt(before.Head.Cid), a.commitAt(after.Head.Cid); was.Tree != is.Tree || was.Meta != is.Meta || was.Consistency != is.Consistency {
			t.Errorf("mounted %t: other files: %+v, %+v", mounted, was, is)
		}
		b.learn()
		b.wantOptions("data", options(commit), nil)
		if res := a.set(commit, "exec-head="); res.Created || res.Note != "" {
			t.Errorf("what is set already makes %+v", res)
		}
	}
	if res := a.do(&volume.Unmount{Name: "data"}); res.Created {
		t.Errorf("an unmount without changes makes %+v", res)
	}
	if l := ofB.Holder(a.info("data").ID); l != nil {
		t.Errorf("the lease stays: %+v", l)
	}

	// What another host writes to gets no fork from it.
	b.do(&volume.Mount{Name: "data"})
	before := a.info("data").Head
	if res := a.set("commit=7m"); res.Created || !strings.Contains(res.Note, "next commit") || a.info("data").Head != before {
		t.Errorf("while another host writes: %+v", res)
	}
	b.do(&volume.Unmount{Name: "data"})
	b.wantOptions("data", options("commit=6m"), nil)
	a.change("data", "f", "seven")
	b.learn()
	b.wantOptions("data", options("commit=7m"), nil)
	if n := len(b.info("data").Forks); n > 0 {
		t.Errorf("there are %d forks", n)
	}
}

func TestAnOptionThatIsSetMakesNoForkOfWhatIsNotHeardYet(t *testing.T) {
	a, b, _, _ := leased(t)
	a.do(&volume.Set{Name: "data", Options: options("commit=manual")})
	b.learn()
	dir := a.do(&volume.Mount{Name: "data"}).Path
	a.must(os.WriteFile(filepath.Join(dir, "kept"), nil, 0o644))
	a.do(&volume.Unmount{Name: "data"}) // with changes that are not committed
	b.set("commit=unmount")
	b.change("data", "g", "of b")
	a.learn()
	before := a.info("data").Head
	if res := a.set("keep=last:4"); res.Created || a.info("data").Head != before {
		t.Errorf("on an older state: %+v", res)
	}
}

func TestOptionsStayWithWhatIsDoneToAVolume(t *testing.T) {
	said := []string{"commit=2s", "keep=last:5"}
	a, b := made(t, append(said, "exec-head=true")...)
	b.change("data", "f", "one")

	b.set("keep=last:6")
	b.do(&volume.Rollback{Name: "data", To: "1"})
	b.wantSaid("data", "commit=2s", "keep=last:6")

	b.do(&volume.Clone{Name: "data@1", To: "copy"})
	b.wantOptions("copy", options("commit=2s", "keep=last:6"), options("commit=2s", "keep=last:6"))
	b.wantSaid("copy", "commit=2s", "keep=last:6")
	b.do(&volume.Clone{Name: "data", To: "bare", Options: options("pause=false")})
	b.wantSaid("bare", "pause=false")
	c := a.host()
	c.learn()
	c.do(&volume.Clone{Name: "data", To: "third"})
	c.wantSaid("third", "commit=2s", "keep=last:6")

	b.do(&volume.Rename{Name: "data", To: "other"})
	b.do(&volume.Remove{Name: "other"})
	b.do(&volume.Undelete{Name: "other"})
	b.wantSaid("other", "commit=2s", "keep=last:6")
	a.learn()
	a.wantOptions("other", options("commit=2s", "keep=last:5", "exec-head=true"), options("commit=2s", "keep=last:5", "exec-head=true"))
}

func TestWhatIsRemovedStaysAsLongOnAllHostsAsItsLastStateSays(t *testing.T) {
	a, b := made(t, "trash=5h")
	b.change("data", "f", "one")
	a.learn()
	a.set("trash=9h")
	a.change("data", "f", "two")
	b.learn()
	a.do(&volume.Remove{Name: "data"})
	b.learn()
	b.wantNames()
	all, err := b.List(t.Context(), volume.ListOptions{Trash: true})
	if err != nil || len(all) != 1 || all[0].Options["trash"] != "9h" {
		t.Errorf("in the trash are %+v, %v", all, err)
	}
}

func TestMergedIsWhatTheHeadSaysOfOptions(t *testing.T) {
	_, hosts := apart(t, map[string]string{"a": "of a"}, map[string]string{"b": "of b"})
	head, fork := hosts[0], hosts[1]
	if len(head.info("data").Forks) == 0 || head.info("data").Head != fork.info("data").Head {
		t.Fatal("there is no fork")
	}
	head.set("commit=2s")
	head.do(&volume.Merge{Name: "data"})
	head.wantSaid("data", "commit=2s")
	fork.learn()
	fork.wantOptions("data", options("commit=2s"), nil)
}

// says has a host make a head that says something of options, as a program might that is not this one.
func (h *host) says(labels map[string]string) {
	h.t.Helper()
	i := h.info("data")
	s, err := h.begin(h.t.Context())
	h.must(err)
	defer s.Close()
	was := h.commitAt(i.Head.Cid)
	c := &snapshot.Commit{
		Tree: was.Tree, Meta: was.Meta, Stats: was.Stats, Import: was.Import, Consistency: was.Consistency, Volume: i.ID, Time: h.clock(), Labels: labels,
	}
	h.must(snapshot.Extend(h.t.Context(), s, c, i.Head.Cid))
	blk, err := snapshot.EncodeCommit(c)
	h.must(err)
	h.must(s.Put(h.t.Context(), blk))
	h.must(h.heads.Tell(h.t.Context(), volume.Told{At: volume.At{ID: i.ID, Name: "data", Head: blk.Cid(), Sequence: c.Sequence}}))
}

func TestWhatAnotherHostSaysOfOptionsIsValidatedAndNeverAnErrorAtAMount(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		said, own, want, again []string
	}{
		"of a newer version":      {said: []string{"speed=fast", "commit=2s"}, want: []string{"commit=2s"}, again: []string{"speed=fast", "commit=2s"}},
		"values that are none":    {said: []string{"commit=often", "keep=", "size=1", "pause=false"}, want: []string{"pause=false"}, again: []string{"commit=often", "keep=", "size=1", "pause=false"}},
		"waits without measure":   {said: []string{"io-timeout=100h", "durability-timeout=1ms", "commit=2s"}, want: []string{"commit=2s"}, again: []string{"io-timeout=100h", "durability-timeout=1ms", "commit=2s"}},
		"a host's own":            {said: []string{"exec-before=touch /tmp/x", "exec-head=true", "readonly=true", "follow=true", "overlay=tmpfs", "uid=7"}},
		"too long":                {said: []string{"exclude=" + long, long + "=x", "commit=2s"}, want: []string{"commit=2s"}, again: []string{"commit=2s"}},
		"at odds with read-only":  {own: []string{"readonly=true"}, said: []string{"commit=2s", "keep=last:3", "size=1GiB"}, want: []string{"readonly=true", "keep=last:3"}},
		"at odds with in memory":  {own: []string{"overlay=tmpfs"}, said: []string{"commit=2s", "keep=last:3"}, want: []string{"overlay=tmpfs", "keep=last:3"}},
		"at odds with follow":     {own: []string{"follow=true"}, said: []string{"lower=full"}, want: []string{"follow=true"}},
		"not what is set here":    {own: []string{"keep=last:7"}, said: []string{"keep=last:3"}, want: []string{"keep=last:7"}, again: []string{"keep=last:7"}},
		"labels that are no such": {said: []string{"=x", "commit=3s"}, want: []string{"commit=3s"}, again: []string{"commit=3s"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := made(t)
			b.change("data", "f", "one")
			if len(c.own) > 0 {
				b.set(c.own...)
			}
			a.learn()
			labels := map[string]string{"people's": "own"}
			for key, value := range options(c.said...) {
				labels["volary.option."+key] = value
			}
			a.says(labels)
			b.learn()
			b.do(&volume.Mount{Name: "data"})
			b.wantOptions("data", options(c.want...), options(c.own...))
			b.do(&volume.Unmount{Name: "data"})
			b.restart()
			if i := b.info("data"); i.Options["readonly"]+i.Options["follow"]+i.Options["overlay"] == "" {
				b.change("data", "f", "two")
				b.wantSaid("data", c.again...)
			}
		})
	}
}

func TestWhatIsWrongWithWhatAnotherHostSaysIsLoggedOnce(t *testing.T) {
	a, b := made(t)
	var log bytes.Buffer
	b.logger = slog.New(slog.NewTextHandler(&log, nil))
	b.restart()
	for _, timeout := range []string{"100h", "100h", "200h"} {
		a.says(map[string]string{"volary.option.io-timeout": timeout})
		b.learn()
		b.do(&volume.Mount{Name: "data"})
		b.do(&volume.Unmount{Name: "data"})
		b.restart()
	}
	if text := log.String(); strings.Count(text, "options that another host gave") != 2 || strings.Count(text, "io-timeout=100h") != 1 {
		t.Errorf("the log has\n%s", text)
	}
}

func TestWhatAnotherHostSaysDoesNotKeepAVolumeFromBeingFollowed(t *testing.T) {
	_, b := made(t, "lower=full", "commit=2s")
	b.do(&volume.Mount{Name: "data", Follow: true})
	b.do(&volume.Unmount{Name: "data"})
	b.do(&volume.Mount{Name: "data", ReadOnly: true})
	b.wantOptions("data", options("lower=full", "commit=2s"), nil)
}

func TestOfMuchThatAnotherHostSaysOnlySoMuchIsHandedOn(t *testing.T) {
	a, b := made(t)
	labels := map[string]string{"volary.option.commit": "2s"}
	for i := range 1000 {
		labels[fmt.Sprint("volary.option.a", i)] = strings.Repeat("x", 500)
	}
	a.says(labels)
	b.learn()
	b.change("data", "f", "one")
	b.wantOptions("data", options("commit=2s"), nil)
	size := 0
	for label, value := range b.commitAt(b.info("data").Head.Cid).Labels {
		size += len(label) + len(value)
	}
	if size < 20<<10 || size > 40<<10 {
		t.Errorf("%d bytes of labels are handed on", size)
	}
}
