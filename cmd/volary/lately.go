package main

import (
	"context"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/volume/api"
)

const (
	mostLately = 1000 // answers that are remembered
	mostAsking = 16   // questions at a time
)

// lately is what the cluster said when it was asked last how often it holds roots, for who does not wait for it. It must
// be made by newLately.
type lately struct {
	host *api.Host
	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex
	said   map[cid.Cid]replicasJSON
	asking map[cid.Cid]bool
}

func newLately(host *api.Host) *lately {
	l := &lately{host: host, said: map[cid.Cid]replicasJSON{}, asking: map[cid.Cid]bool{}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// close returns when no question is left.
func (l *lately) close() {
	l.mu.Lock()
	l.stop() // no question begins any more
	l.mu.Unlock()
	l.work.Wait()
}

// replicas is how many replicas of a root there are, of how many at least, if that is known now. The cluster is then
// asked anew.
func (l *lately) replicas(root cid.Cid) (text string, known bool) {
	queued, err := queuedRoots(l.ctx, l.host) // which waits for nobody
	if _, waits := queued[root]; err == nil && waits {
		return stateQueued, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() == nil && !l.asking[root] && len(l.asking) < mostAsking {
		l.asking[root] = true
		l.work.Go(func() { l.ask(root) })
	}
	j, known := l.said[root]
	return j.column(), known
}

func (l *lately) ask(root cid.Cid) {
	ctx, done := context.WithTimeout(l.ctx, statusTime)
	defer done()
	st, err := l.host.Replicas.Status(ctx, root)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.asking, root)
	if err != nil {
		delete(l.said, root)
		return
	}
	if len(l.said) >= mostLately {
		clear(l.said)
	}
	l.said[root] = newReplicasJSON(root, st, nil)
}
