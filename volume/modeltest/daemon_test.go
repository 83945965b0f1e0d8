//go:build real

package modeltest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
	"github.com/volary/volary/volume/modeltest"
)

// program builds the real program.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "volary")
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/volary").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// daemon is a host that another process serves, which can be killed.
type daemon struct {
	bin, home string

	process *exec.Cmd
	log     said // by all the processes there were
	host    *api.Host
	ended   chan error   // gives how the process ended
	dying   []chan error // those of processes that were killed, and wait for another one to end
	kills   map[syscall.Signal]int
	cut     int // requests that were not answered
	lost    int // databases

	joined chan error // gives whether what happens beside was well; nil if nothing does
}

var _ host = (*daemon)(nil)

// said is a log that processes write to at the same time: one that was killed and its successor.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startTime bounds how long a daemon takes to be there, and to go.
const startTime = time.Minute

func newDaemon(ctx context.Context, bin, home string) (*daemon, error) {
	d := &daemon{bin: bin, home: home, kills: map[syscall.Signal]int{}}
	return d, d.start(ctx)
}

// start begins the life of a daemon, and returns once it answers. One that does not answer leaves nobody waiting.
func (d *daemon) start(ctx context.Context) error {
	if err := d.launch(); err != nil {
		return err
	}
	return d.greet(ctx)
}

func (d *daemon) launch() error {
	d.process = exec.Command(d.bin, "--home", d.home, "daemon")
	d.process.Stderr = &d.log
	if err := d.process.Start(); err != nil {
		return err
	}
	ended, process := make(chan error, 1), d.process
	d.ended = ended
	go func() { ended <- process.Wait() }()
	return nil
}

func (d *daemon) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		var err error
		if d.host, err = api.Dial(ctx, filepath.Join(d.home, "volary.sock"), api.DialOptions{}); err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
			continue
		case end := <-d.ended:
			err = fmt.Errorf("daemon ended: %v: %w", end, err)
		case <-ctx.Done():
			err = errors.Join(err, d.process.Process.Kill())
		}
		d.abort()
		return fmt.Errorf("%w\n%s", err, d.log.String())
	}
}

// abort fails the requests to mounts that nobody serves.
func (d *daemon) abort() {
	found, _ := filepath.Glob(filepath.Join(d.home, "volumes", "overlays", "*", "closed", "base"))
	for _, at := range found {
		unix.Unmount(at, unix.MNT_FORCE|unix.MNT_DETACH)
	}
}

// killTime is how long a killed process is waited for before the next one is started.
const killTime = 200 * time.Millisecond

// end ends the process. The mounts are then kept by the holder.
func (d *daemon) end(signal syscall.Signal) error {
	d.kills[signal]++
	if err := d.process.Process.Signal(signal); err != nil {
		return err
	}
	if signal == unix.SIGKILL {
		select {
		case <-d.ended:
		case <-time.After(killTime):
			d.dying = append(d.dying, d.ended)
		}
		return d.host.Closer.Close()
	}
	select {
	case err := <-d.ended:
		return errors.Join(err, d.host.Closer.Close())
	case <-time.After(startTime):
		// It says where it stands.
		return errors.Join(errors.New("the daemon does not end"), d.process.Process.Signal(unix.SIGQUIT), <-d.ended)
	}
}

func (d *daemon) Do(ctx context.Context, op volume.Operation) (volume.Result, error) {
	return d.host.Volumes.Do(ctx, op)
}

func (d *daemon) Resolve(ctx context.Context, ref string) (cid.Cid, error) {
	return d.host.Volumes.Resolve(ctx, ref)
}

func (d *daemon) blocks() snapshot.Blocks { return d.host.Blocks }

func (d *daemon) collect(ctx context.Context) error {
	_, err := d.host.Upkeep.Collect(ctx, false)
	return err
}

func (d *daemon) restart(ctx context.Context) error {
	return errors.Join(d.end(unix.SIGTERM), d.start(ctx))
}

func (d *daemon) reopen(ctx context.Context) error { return d.restart(ctx) }

// followed is how often a daemon took the state over from one that could not end.
func (d *daemon) followed() int { return strings.Count(d.log.String(), "took the state over") }

// close ends the process and waits until nobody holds mounts, and those have ended that were killed.
func (d *daemon) close() error {
	err := errors.Join(d.end(unix.SIGTERM), letGoOf(filepath.Join(d.home, "holder.sock")))
	for _, ended := range d.dying {
		select {
		case <-ended:
		case <-time.After(startTime):
			return errors.Join(err, errors.New("a daemon that was killed does not end"))
		}
	}
	return err
}

// lose ends the daemon and its database, and what else is named, and returns what the next one recovered, if there was
// something.
func (d *daemon) lose(ctx context.Context, files ...string) (found cid.Cid, err error) {
	d.lost++
	before, err := d.host.Tags.Tags(ctx)
	if err != nil {
		return found, err
	}
	err = d.end(unix.SIGKILL)
	for _, file := range append(files, "volumes/volumes.db") {
		err = errors.Join(err, os.Remove(filepath.Join(d.home, file)))
	}
	if err := errors.Join(err, d.start(ctx)); err != nil {
		return found, err
	}
	for end := time.Now().Add(startTime); ; {
		left, err := os.ReadDir(filepath.Join(d.home, "volumes", "overlays"))
		if err != nil || len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			return found, fmt.Errorf("changes are still there: %v\n%s", left, d.log.String())
		}
		<-time.After(5 * time.Millisecond)
	}
	after, err := d.host.Tags.Tags(ctx)
	for tag, root := range after {
		if _, known := before[tag]; !known && strings.HasPrefix(tag, volume.Recovered) {
			found = root
		}
	}
	return found, err
}

// interrupt begins something, ends the daemon at a random moment of it, and starts another one, while files are
// worked with. What was begun has no answer, or one that counts.
func (d *daemon) interrupt(ctx context.Context, o modeltest.Op, signal syscall.Signal) error {
	begun, after := inFlight()[o.Seed%uint64(len(inFlight()))], time.Duration(o.Seed>>4%40_000)*time.Microsecond
	if o.Mode != 0 {
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			return err
		}
	}
	joined := make(chan error, 1)
	d.joined = joined
	ending := &daemon{host: d.host} // nothing of what is begun is for the next one
	go func() {
		answered := make(chan error, 1)
		go func() { answered <- begun.do(ctx, ending) }()
		<-time.After(after)
		// A killed process that waits for the next one has its connections until then.
		err := d.end(signal)
		if err == nil {
			err = d.start(ctx)
		}
		if err != nil {
			d.abort()
		}
		if <-answered != nil {
			d.cut++
		}
		if err == nil && begun.tidy != nil {
			err = begun.tidy(ctx, d)
		}
		joined <- err
	}()
	return nil
}

// join waits until nothing happens beside.
func (d *daemon) join() error {
	if d.joined == nil {
		return nil
	}
	err := <-d.joined
	d.joined = nil
	return err
}

// begun is what a daemon does when it is ended, and how to undo that of it which was done.
type begun struct {
	do, tidy func(context.Context, *daemon) error
}

func inFlight() []begun {
	const other = "other"
	do := func(ops ...volume.Operation) func(context.Context, *daemon) error {
		return func(ctx context.Context, d *daemon) error {
			for _, op := range ops {
				if _, err := d.Do(ctx, op); err != nil {
					return err
				}
			}
			return nil
		}
	}
	removed := func(ctx context.Context, d *daemon) error {
		_, err := d.Do(ctx, &volume.Remove{Name: other, Force: true})
		if errors.Is(err, volume.ErrNotFound) {
			return nil
		}
		return err
	}
	return []begun{
		{do: do(&volume.Commit{Name: name})},
		{do: do(&volume.Commit{Name: name}, &volume.Commit{Name: name})},
		{do: do(&volume.Mount{Name: name, User: other}, &volume.Unmount{Name: name, User: other}),
			tidy: do(&volume.Unmount{Name: name, User: other})},
		{do: do(&volume.Clone{Name: name, To: other}, &volume.Mount{Name: other}, &volume.Unmount{Name: other}, &volume.Mount{Name: other}), tidy: removed},
		{do: do(&volume.Preview{Name: name}, &volume.Tag{Name: name, Tag: "tag"})},
		{do: do()},
	}
}
