package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/outbox"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/unixfs"
	"github.com/volary/volary/volume/publish"
)

// state stores a commit after others.
func state(t *testing.T, b snapshot.Blocks, message string, parents ...cid.Cid) cid.Cid {
	t.Helper()
	dir, err := unixfs.WriteDir(t.Context(), b, nil)
	wantNoErr(t, err)
	c := &snapshot.Commit{
		Tree: dir.CID, Volume: "k51", Time: time.Unix(1, 0).UTC(), Message: message, Import: snapshot.ImportInfo{Profile: unixfs.Profile},
		Consistency: snapshot.Clean, Stats: snapshot.Stats{Dirs: 1}, NoXattrs: true,
	}
	if message == "next" {
		c.Labels = map[string]string{"volary.option.replicas": "2-3"}
	}
	wantNoErr(t, snapshot.Extend(t.Context(), b, c, parents...))
	blk, err := snapshot.EncodeCommit(c)
	wantNoErr(t, err)
	wantNoErr(t, b.Put(t.Context(), blk))
	return blk.Cid()
}

func wantNoErr(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// away is a set that takes nothing.
type away struct{ *pinsettest.Memory }

func (away) Add(context.Context, pinset.Pin) error { return pinset.ErrUnavailable }

func TestAHeadTakesThePlaceInTheQueueOfNoneThatItDoesNotComeAfter(t *testing.T) {
	b := blockstest.NewMemory()
	base := state(t, b, "base")
	ours, theirs := state(t, b, "ours", base), state(t, b, "theirs", base)
	next := state(t, b, "next", theirs)

	tried := make(chan outbox.Outcome, 100)
	q, err := outbox.Open(filepath.Join(t.TempDir(), outboxFile), outbox.Options{
		Set: away{pinsettest.NewMemory()}, Interval: time.Hour, MinBackoff: time.Hour, MaxBackoff: time.Hour,
		Observe: func(o outbox.Outcome) { tried <- o },
	})
	wantNoErr(t, err)
	defer q.Close()
	r := &remote{outbox: q, heads: publish.New(publish.Options{Blocks: b})}
	for _, root := range []cid.Cid{base, ours, theirs, next} {
		wantNoErr(t, r.sendHead(t.Context(), "k51", pinset.Pin{Root: root, Owner: "volume/k51"}))
		if root == base {
			<-tried // what is being sent is not replaced
		}
	}
	waiting := map[cid.Cid]bool{}
	for _, w := range q.Waiting() {
		waiting[w.Pin.Root] = true
	}
	for _, w := range q.Waiting() {
		if want := map[cid.Cid]string{next: "2-3"}[w.Pin.Root]; w.Args[metaReplicas] != want {
			t.Errorf("%s is to be held %q times, want %q", w.Pin.Root, w.Args[metaReplicas], want)
		}
	}
	if len(waiting) != 2 || !waiting[ours] || !waiting[next] {
		t.Errorf("waiting are %v, want %s and %s", waiting, ours, next)
	}
}
