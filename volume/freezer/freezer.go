// Package freezer stops the processes that use a mount, all at once, for as long as its files are read.
//
// Start with [Open] and [Freezer.Pause]. A process is stopped by freezing its cgroup (version 2), with everything
// else that runs in it, so that nothing of it is left in the middle of a system call.
//
// It guarantees: what this process did not freeze it does not thaw; nothing is frozen for longer than the limit; and
// what a process froze that was killed is thawed by the Open of the next one, for it was written down before.
package freezer

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounts"
	"github.com/volary/volary/volume/procs"
)

const (
	// DefaultWait is how long processes may take to stop.
	DefaultWait = 5 * time.Second
	// DefaultLimit is how long a pause may last.
	DefaultLimit = 30 * time.Second
	// maxRounds is how often processes are looked for that began while others were being stopped.
	maxRounds = 10
)

// Keys of the log.
const (
	logCgroup = "cgroup"
	logError  = "error"
	logLimit  = "limit"
)

// Options of a Freezer.
type Options struct {
	Wait   time.Duration // 0 is DefaultWait
	Limit  time.Duration // from the first that is frozen; 0 is DefaultLimit
	Logger *slog.Logger  // nil discards
}

// Freezer is the [volume.Pauser] of cgroups. It must be made by Open; its methods are safe for concurrent use.
type Freezer struct {
	o       Options
	log     *slog.Logger
	journal string
	turn    chan struct{} // has room for the pause that there is
	left    []cgroup      // could not be thawed; of the pause that there is
}

var _ volume.Pauser = (*Freezer)(nil)

// Open returns a Freezer that writes down in a file what it freezes, and thaws what the file says is frozen. There
// must be one at a time for a file.
func Open(journal string, o Options) (*Freezer, error) {
	if o.Wait <= 0 {
		o.Wait = DefaultWait
	}
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	f := &Freezer{o: o, log: o.Logger, journal: journal, turn: make(chan struct{}, 1)}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	thawed, err := recoverFrom(journal)
	for _, c := range thawed {
		f.log.Warn("thawed what a process before this one had frozen", logCgroup, c.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("thaw what was frozen: %w", err)
	}
	return f, nil
}

// Pause implements [volume.Pauser]. There is one pause at a time: others wait for its end.
func (f *Freezer) Pause(ctx context.Context, mount string) (resume func() error, _ error) {
	var st unix.Stat_t
	if err := unix.Stat(mount, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", mount, err)
	}
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p := &pause{f: f, dev: st.Dev, frozen: map[string]bool{}, ours: f.left}
	if err := p.begin(ctx); err != nil {
		p.finish()
		return nil, err
	}
	return p.end, nil
}

// pause is one stretch of time in which processes stand still.
type pause struct {
	f      *Freezer
	dev    uint64
	cgroup *hierarchy      // nil until somebody uses the mount
	frozen map[string]bool // cgroups that are, by whomever

	mu    sync.Mutex
	ours  []cgroup // those that are to be thawed
	limit *time.Timer
	late  bool // the limit was reached
	over  bool // it is for others to freeze, and to thaw what is left
}

func (p *pause) begin(ctx context.Context) error {
	wait := fmt.Errorf("did not stop within %s", p.f.o.Wait)
	ctx, cancel := context.WithTimeoutCause(ctx, p.f.o.Wait, wait)
	defer cancel()
	for range maxRounds {
		missing, err := p.running()
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			return nil
		}
		if err := p.freeze(ctx, missing); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: more and more of them begin", volume.ErrCannotPause)
}

// running returns the processes that use the mount and are in no frozen cgroup, by cgroup. It is an error if there
// are some that cannot be frozen.
func (p *pause) running() (map[string][]procs.Process, error) {
	using, err := procs.Using(p.dev)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", volume.ErrCannotPause, err)
	}
	using = slices.DeleteFunc(using, func(proc procs.Process) bool { return proc.PID == os.Getpid() })
	if len(using) > 0 && p.cgroup == nil {
		if p.cgroup, err = findHierarchy(); err != nil {
			return nil, fmt.Errorf("%w: %w", volume.ErrCannotPause, err)
		}
	}
	missing, free := map[string][]procs.Process{}, map[string][]procs.Process{}
	for _, proc := range using {
		c, err := p.cgroup.domainOf(proc.PID)
		switch {
		case isGone(err), p.covers(c):
			continue
		case err != nil:
			return nil, fmt.Errorf("%w: cgroup of %s: %w", volume.ErrCannotPause, proc, err)
		}
		if why := p.cgroup.obstacle(c); why != "" {
			free[why] = append(free[why], proc)
		}
		missing[c] = append(missing[c], proc)
	}
	if len(free) > 0 {
		return nil, cannot(free)
	}
	return missing, nil
}

// cannot names processes by what hinders stopping them.
func cannot(free map[string][]procs.Process) error {
	const most = 10
	var parts []string
	for why, ps := range free {
		var names []string
		for _, p := range ps[:min(len(ps), most)] {
			names = append(names, p.String())
		}
		if len(ps) > most {
			names = append(names, fmt.Sprintf("%d more", len(ps)-most))
		}
		verb := "is"
		if len(ps) > 1 {
			verb = "are"
		}
		parts = append(parts, fmt.Sprintf("%s %s %s", strings.Join(names, ", "), verb, why))
	}
	slices.Sort(parts)
	return fmt.Errorf("%w: %s\nwhat runs in a cgroup of its own, as containers and services do, can be stopped",
		volume.ErrCannotPause, strings.Join(parts, "; "))
}

func (p *pause) covers(cgroup string) bool {
	for c := range p.frozen {
		if within(cgroup, c) {
			return true
		}
	}
	return false
}

// freeze freezes cgroups, and waits until they are.
func (p *pause) freeze(ctx context.Context, missing map[string][]procs.Process) error {
	var fresh []cgroup
	for c := range missing {
		path := p.cgroup.path(c)
		found, err := cgroupAt(path)
		already := false
		if err == nil {
			already, err = isSet(path)
		}
		if err == nil && !already {
			fresh = append(fresh, found)
		}
		if err != nil && !isGone(err) {
			return fmt.Errorf("%w: %w", volume.ErrCannotPause, err)
		}
	}
	if err := p.take(fresh); err != nil {
		return err
	}
	for c, ps := range missing {
		err := await(ctx, p.cgroup.path(c))
		if isGone(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: %w", volume.ErrCannotPause, stuck(ps, err))
		}
		p.frozen[c] = true
	}
	return nil
}

func stuck(ps []procs.Process, err error) error {
	var names []string
	for _, p := range ps {
		names = append(names, p.String())
	}
	return fmt.Errorf("%s, or what is in the same cgroup: %w", strings.Join(names, ", "), err)
}

// take asks for cgroups to be frozen, once it is written down that they are to be thawed. With the first the time
// begins to run.
func (p *pause) take(fresh []cgroup) error {
	if len(fresh) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late {
		return fmt.Errorf("%w: the limit of %s was reached", volume.ErrCannotPause, p.f.o.Limit)
	}
	ours := slices.Concat(p.ours, fresh)
	boot, err := mounts.Boot()
	if err == nil {
		err = journal{journalVersion, boot, ours}.write(p.f.journal)
	}
	if err != nil {
		return fmt.Errorf("write down what is to be frozen: %w", err)
	}
	p.ours = ours
	if p.limit == nil {
		p.limit = time.AfterFunc(p.f.o.Limit, p.expire)
	}
	for _, c := range fresh {
		if err := c.set("1"); err != nil && !isGone(err) {
			return fmt.Errorf("%w: %w", volume.ErrCannotPause, err)
		}
	}
	return nil
}

// expire is called when the limit is reached, and perhaps only after the pause is over.
func (p *pause) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.late = true
	p.thaw()
	p.f.log.Warn("processes were stopped for too long, and go on", logLimit, p.f.o.Limit)
}

// finish ends the pause, and lets another one begin.
func (p *pause) finish() (late bool) {
	p.mu.Lock()
	p.thaw()
	p.over, late = true, p.late
	p.mu.Unlock()
	<-p.f.turn
	return late
}

// thaw lets everything go on that was frozen here. It is called with the lock.
func (p *pause) thaw() {
	if p.limit != nil {
		p.limit.Stop()
	}
	p.f.left = nil
	for _, c := range p.ours {
		if err := c.thaw(); err != nil {
			// It stays in the journal, for the next pause or process to try.
			p.f.log.Error("processes stay stopped", logError, err)
			p.f.left = append(p.f.left, c)
		}
	}
	if len(p.ours) > 0 && len(p.f.left) == 0 {
		if err := os.Remove(p.f.journal); err != nil && !isGone(err) {
			p.f.log.Error("what was frozen is still written down", logError, err)
		}
	}
	p.ours = nil
}

// end is what Pause returns. It looks again before it thaws: who came later was not stopped.
func (p *pause) end() error {
	err := p.held()
	if p.finish() {
		err = fmt.Errorf("they went on after %s, the limit", p.f.o.Limit)
	}
	return err
}

// held returns an error unless all who use the mount are stopped.
func (p *pause) held() error {
	missing, err := p.running()
	if err != nil {
		return err
	}
	for _, ps := range missing {
		return fmt.Errorf("%s began meanwhile", ps[0])
	}
	for c := range p.frozen {
		frozen, err := isFrozen(p.cgroup.path(c))
		if err == nil && !frozen {
			return fmt.Errorf("somebody let the cgroup %s go on", c)
		}
		if err != nil && !isGone(err) { // gone: nobody was left in it
			return err
		}
	}
	return nil
}
