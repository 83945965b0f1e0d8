package main

import (
	"os"
	"sync"
	"time"

	"github.com/cheggaaa/pb/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/volary/volary/snapshot/archive"
)

// progress is a bar on standard error, if that is a terminal, and nothing otherwise.
type progress struct {
	bar     *pb.ProgressBar
	stop    chan struct{}
	watcher sync.WaitGroup
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
