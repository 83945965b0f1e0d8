package main

import (
	"context"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/volume/api"
)

// lazyCluster is a cluster that answers when it is told to.
type lazyCluster struct {
	api.Replicas
	asked   chan cid.Cid
	answers chan error
	waiting []api.Waiting
}

func (s lazyCluster) Status(ctx context.Context, root cid.Cid) (pinset.Status, error) {
	s.asked <- root
	select {
	case err := <-s.answers:
		return pinset.Status{State: pinset.Pinned, Min: 2, Max: 3, Replicas: []pinset.Replica{{Pinned: true}, {Pinned: true}}}, err
	case <-ctx.Done():
		return pinset.Status{}, ctx.Err()
	}
}

func (s lazyCluster) Waiting(context.Context) ([]api.Waiting, error) { return s.waiting, nil }

func TestWhoLooksForReplicasDoesNotWaitForTheCluster(t *testing.T) {
	b := blockstest.NewMemory()
	root, queued := state(t, b, "one"), state(t, b, "two")
	s := lazyCluster{asked: make(chan cid.Cid, 1), answers: make(chan error), waiting: []api.Waiting{{Op: "pin", Root: queued}}}
	l := newLately(&api.Host{Replicas: s})
	defer l.close()
	wants := func(root cid.Cid, text string, known bool) {
		t.Helper()
		if got, is := l.replicas(root); got != text || is != known {
			t.Errorf("replicas are %q, known %t, want %q, %t", got, is, text, known)
		}
	}
	wants(queued, "queued", true)
	wants(root, "", false)
	<-s.asked
	wants(root, "", false) // it is being asked
	s.answers <- nil
	l.work.Wait()
	wants(root, "2/2", true)
	<-s.asked
	s.answers <- errors.New("away")
	l.work.Wait()
	wants(root, "", false)
	<-s.asked // close does not wait for the answer
}
