package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cheggaaa/pb/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot/archive"
)

// progress is a bar on standard error, if that is a terminal, and nothing otherwise.
type progress struct {
	bar     *pb.ProgressBar
	stop    chan struct{}
	watcher sync.WaitGroup
	wanted  int // replicas
}

const (
	barWithTotal pb.ProgressBarTemplate = `{{string . "verb"}} {{counters . }} {{bar . }} {{percent . }} {{speed . "%s/s"}} {{rtime . "ETA %s"}}`
	barOpenEnd   pb.ProgressBarTemplate = `{{string . "verb"}} {{counters . }} {{speed . "%s/s"}} {{etime . }}`
)

func newProgress(c *cli.Context, verb string) *progress {
	f, ok := c.App.ErrWriter.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &progress{}
	}
	bar := barOpenEnd.New(0).SetWriter(f).Set(pb.Bytes, true).Set(pb.CleanOnFinish, true).Set("verb", verb)
	return &progress{bar: bar.Start()}
}

// barReplicas has the peers in the cluster's own terms.
const barReplicas pb.ProgressBarTemplate = `{{string . "verb"}} {{counters . }} {{string . "peers"}} {{etime .}}`

// newReplicaBar is for waiting for so many replicas, or for as many as are needed.
func newReplicaBar(c *cli.Context, wanted int) *progress {
	p := newProgress(c, "replicas")
	p.wanted = wanted
	if p.bar != nil {
		p.bar.Set(pb.Bytes, false).SetTemplate(barReplicas)
	}
	return p
}

// replicas takes what the peers say.
func (p *progress) replicas(st pinset.Status) {
	if p.bar == nil {
		return
	}
	have, peers := 0, []string{}
	for _, r := range st.Replicas {
		if r.Pinned {
			have++
		}
		peers = append(peers, cmp.Or(r.Name, r.Peer)+" "+r.State)
	}
	text := quote(strings.Join(peers, ", "))
	if st.State == pinset.Unpinned {
		text = stateQueued
	}
	p.bar.SetTotal(int64(cmp.Or(p.wanted, max(st.Min, 1)))).SetCurrent(int64(have)).Set("peers", text)
}

// say prints a line on standard error, above the bar.
func (p *progress) say(c *cli.Context, line string) {
	if p.bar != nil {
		line = "\r\x1b[K" + line
	}
	fmt.Fprintln(c.App.ErrWriter, line)
}

// blocks takes the running totals of an export or import.
func (p *progress) blocks(s archive.Stats) {
	if p.bar != nil {
		p.bar.SetCurrent(int64(s.Bytes))
	}
}

func (p *progress) add(n uint64) {
	if p.bar != nil {
		p.bar.Add64(int64(n))
	}
}

// barEvery is how often a watched bar is brought up to date.
const barEvery = 200 * time.Millisecond

// watch keeps the bar at what poll says, until finish. There is an ETA while the total is more than what is
// done.
func (p *progress) watch(poll func() (done, total uint64)) {
	if p.bar == nil {
		return
	}
	p.stop = make(chan struct{})
	p.watcher.Go(func() {
		for tick := time.NewTicker(barEvery); ; {
			select {
			case <-p.stop:
				tick.Stop()
				return
			case <-tick.C:
			}
			done, total := poll()
			if total > done {
				p.bar.SetTotal(int64(total))
				p.bar.SetTemplate(barWithTotal)
			}
			p.bar.SetCurrent(int64(done))
		}
	})
}

// finish takes the bar away. It may be called more than once.
func (p *progress) finish() {
	if p.bar == nil {
		return
	}
	if p.stop != nil {
		close(p.stop)
		p.watcher.Wait()
	}
	p.bar.Finish()
	p.bar = nil
}
