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
	log     bytes.Buffer // of all the processes there were
	host    *api.Host
	ended   chan error // gives how the process ended
	kills   map[syscall.Signal]int
	cut     int // requests that were not answered
	lost    int // databases

	joined chan error // gives whether what happens beside was well; nil if nothing does
}

var _ host = (*daemon)(nil)

// startTime bounds how long a daemon takes to be there, and to go.
const startTime = time.Minute

func newDaemon(ctx context.Context, bin, home string) (*daemon, error) {
	d := &daemon{bin: bin, home: home, kills: map[syscall.Signal]int{}}
	return d, d.start(ctx)
}

// start begins the life of a daemon, and returns once it answers. One that does not answer leaves nobody waiting.
func (d *daemon) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	d.process = exec.Command(d.bin, "--home", d.home, "daemon")
	d.process.Stderr = &d.log
	if err := d.process.Start(); err != nil {
		return err
	}
	ended, process := make(chan error, 1), d.process
	d.ended = ended
	go func() { ended <- process.Wait() }()
	for {
		var err error
		if d.host, err = api.Dial(ctx, filepath.Join(d.home, "volary.sock"), api.DialOptions{}); err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
			continue
		case end := <-ended:
			err = fmt.Errorf("daemon ended: %v: %w", end, err)
		case <-ctx.Done():
			err = errors.Join(err, d.process.Process.Kill())
		}
		d.abort()
		return fmt.Errorf("%w\n%s", err, d.log.Bytes())
	}
}

// abort fails the requests to mounts that nobody serves.
func (d *daemon) abort() {
	found, _ := filepath.Glob(filepath.Join(d.home, "volumes", "overlays", "*", "closed", "base"))
	for _, at := range found {
		unix.Unmount(at, unix.MNT_FORCE|unix.MNT_DETACH)
	}
}

// end ends the process. The mounts are then kept by the holder.
func (d *daemon) end(signal syscall.Signal) error {
	d.kills[signal]++
	if err := d.process.Process.Signal(signal); err != nil {
		return err
	}
	select {
	case err := <-d.ended:
		var exit *exec.ExitError
		if signal == unix.SIGKILL && errors.As(err, &exit) {
			err = nil
		}
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

// close ends the process and waits until nobody holds mounts.
func (d *daemon) close() error {
	return errors.Join(d.end(unix.SIGTERM), letGoOf(filepath.Join(d.home, "holder.sock")))
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
			return found, fmt.Errorf("changes are still there: %v\n%s", left, d.log.Bytes())
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
	if begun.works {
		// Killed while it waits for a directory that is being copied up, which waits for its answer, it could not end.
		signal = unix.SIGTERM
	}
	if o.Mode != 0 {
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			return err
		}
	}
	joined := make(chan error, 1)
	d.joined = joined
	go func() {
		answered := make(chan error, 1)
		go func() { answered <- begun.do(ctx, d) }()
		<-time.After(after)
		err := d.end(signal)
		if err != nil {
			d.abort()
		}
		if <-answered != nil {
			d.cut++
		}
		if err == nil {
			err = d.start(ctx)
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
	works    bool // in the directory for changes, or at mounting
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
		{works: true, do: do(&volume.Commit{Name: name})},
		{works: true, do: do(&volume.Commit{Name: name}, &volume.Commit{Name: name})},
		{do: do(&volume.Mount{Name: name, User: other}, &volume.Unmount{Name: name, User: other}),
			tidy: do(&volume.Unmount{Name: name, User: other})},
		{works: true, do: do(&volume.Clone{Name: name, To: other}, &volume.Mount{Name: other}, &volume.Unmount{Name: other}, &volume.Mount{Name: other}), tidy: removed},
		{works: true, do: do(&volume.Preview{Name: name}, &volume.Tag{Name: name, Tag: "tag"})},
		{do: do()},
	}
}
