package volume_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// peers are a cluster that holds what it is asked for at once, or not at all: then who asks first is not answered, and
// others are refused.
type peers struct {
	mu     sync.Mutex
	away   bool
	silent bool // to who asks next
	asked  []cid.Cid
}

func (p *peers) set(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.silent = away, away
}

func (p *peers) all() []cid.Cid {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *peers) replicate(ctx context.Context, c cid.Cid) error {
	p.mu.Lock()
	away, silent := p.away, p.silent
	p.silent = false
	p.asked = append(p.asked, c)
	p.mu.Unlock()
	if !away {
		return nil
	}
	if silent {
		<-ctx.Done()
	}
	return errors.New("peer-2: pin_queued")
}

func newReplicatedHost(t *testing.T) (*host, *peers) {
	h, p := newHost(t, mounttest.NewCopies()), &peers{}
	h.replicate = p.replicate
	h.restart()
	return h, p
}

func TestACommitIsDoneOnceItIsReplicated(t *testing.T) {
	h, p := newReplicatedHost(t)
	h.do(&volume.Create{Name: "data", Options: map[string]string{"durability": "cluster", "durability-timeout": "1s"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	first := h.do(&volume.Commit{Name: "data"})
	if asked := p.all(); first.Lagging || first.Warning != "" || len(asked) != 1 || asked[0] != first.Commit.Cid {
		t.Errorf("%+v, with %v waited for", first, asked)
	}

	p.set(true)
	h.write(filepath.Join(dir, "a"), "2")
	second := h.do(&volume.Commit{Name: "data"})
	if !second.Created || !second.Lagging || !strings.Contains(second.Warning, "the commit stands") || !strings.Contains(second.Warning, "peer-2: pin_queued") {
		t.Errorf("with the cluster away: %+v", second)
	}
	h.wantFiles("data", files{"a": "2"})
	if again := h.do(&volume.Commit{Name: "data"}); again.Created || !again.Lagging {
		t.Errorf("a commit of no change is acknowledged with the cluster away: %+v", again)
	}
	h.write(filepath.Join(dir, "a"), "3")
	if res := h.do(&volume.Commit{Name: "data", NoWait: true}); !res.Created || res.Lagging {
		t.Errorf("without waiting: %+v", res)
	}
	h.write(filepath.Join(dir, "a"), "4")
	if res := h.do(&volume.Unmount{Name: "data"}); !res.Created || !res.Lagging {
		t.Errorf("an unmount that committed: %+v", res)
	}
	h.do(&volume.Mount{Name: "data"})
	if res := h.do(&volume.Unmount{Name: "data"}); res.Lagging {
		t.Errorf("an unmount without a commit: %+v", res)
	}
	if res := h.do(&volume.Rollback{Name: "data", To: "1"}); !res.Lagging {
		t.Errorf("a rollback: %+v", res)
	}
}

func TestACommitIsDoneOnThisHostUnlessAskedOtherwise(t *testing.T) {
	h, p := newReplicatedHost(t)
	for _, options := range []map[string]string{nil, {"durability": "local"}} {
		h.do(&volume.Create{Name: "data", Options: options})
		dir := h.do(&volume.Mount{Name: "data"}).Path
		h.write(filepath.Join(dir, "a"), "1")
		h.do(&volume.Unmount{Name: "data"})
		h.do(&volume.Remove{Name: "data"})
	}
	if asked := p.all(); len(asked) > 0 {
		t.Errorf("replicas of %v were waited for", asked)
	}
}

func TestDurabilityOfAClusterNeedsOne(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	cluster := map[string]string{"durability": "cluster"}
	h.refused(&volume.Create{Name: "data", Options: cluster}, volume.ErrNoCluster)
	h.do(&volume.Create{Name: "data"})
	h.refused(&volume.Set{Name: "data", Options: cluster}, volume.ErrNoCluster)
	h.refused(&volume.Clone{Name: "data", To: "copy", Options: cluster}, volume.ErrNoCluster)
	if i, err := h.Inspect(t.Context(), "data"); err != nil || len(i.Options) > 0 {
		t.Errorf("after options that were refused: %+v, %v", i, err)
	}
	h.refused(&volume.Set{Name: "data", Options: map[string]string{"durability": "everywhere"}}, volume.ErrInvalid)

	// A cluster that was there once holds up nothing but the acknowledgement.
	h.replicate = (&peers{}).replicate
	h.restart()
	h.do(&volume.Set{Name: "data", Options: cluster})
	h.replicate = nil
	h.restart()
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	if res := h.do(&volume.Commit{Name: "data"}); !res.Created || !res.Lagging || !strings.Contains(res.Warning, "no cluster") {
		t.Errorf("without the cluster: %+v", res)
	}
	h.do(&volume.Set{Name: "data", Options: map[string]string{"keep": "last:5"}})
}

func TestAnAutomaticCommitThatIsNotReplicatedIsAFailureUntilItIs(t *testing.T) {
	h, p := newReplicatedHost(t)
	p.set(true)
	h.do(&volume.Create{Name: "data", Options: map[string]string{"durability": "cluster", "durability-timeout": "1s", "commit": "1s"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	defer func() { stop(); <-ended }()
	failure := func() *volume.Failure {
		infos, err := h.List(t.Context(), volume.ListOptions{})
		h.must(err)
		return infos[0].Failure
	}
	until := func(what string, yes func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !yes(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("never %s: %+v", what, failure())
			}
		}
	}
	h.write(filepath.Join(dir, "a"), "1")
	until("failed", func() bool {
		f := failure()
		return f != nil && f.What == volume.FailedReplicas && strings.Contains(f.Error, "peer-2: pin_queued")
	})
	before := h.resolve("data")
	h.write(filepath.Join(dir, "a"), "2")
	until("committed again", func() bool { return h.resolve("data") != before })
	p.set(false)
	until("well", func() bool { return failure() == nil })
}
