//go:build real

package modeltest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/volume"
)

// Environment of a child that lives.
const (
	envStop  = "MODEL_STOP"  // the label at which it dies and how often it is reached before: "label:n"
	envPower = "MODEL_POWER" // mount point of the disk whose power is cut before that
	envHeld  = "MODEL_HELD"  // mounts are kept by a holder
	envCount = "MODEL_COUNT" // labels are said
)

// stopAt returns a Step that ends the life of the process, or of the machine.
func stopAt(stop string) func(string) error {
	label, nth, _ := strings.Cut(stop, ":")
	n, _ := strconv.Atoi(nth)
	var seen atomic.Int64
	return func(reached string) error {
		if os.Getenv(envCount) != "" {
			fmt.Println("step", reached)
		}
		if reached != label || seen.Add(1) != int64(n) {
			return nil
		}
		if mount := os.Getenv(envPower); mount != "" {
			if err := disktest.Cut(mount, disktest.NoLogFlush); err != nil {
				return err
			}
		}
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// container is a user who does not wait until what he wrote is committed.
const container = volume.ContainerUser + "1"

// life is what a child does, a line at a time, and says once it is acknowledged.
type life struct {
	machine
	at  string // where the volume is mounted
	err error
}

// live makes two volumes and works in one of them, until it is stopped.
func live(ctx context.Context, dir string) error {
	l := &life{machine: machine{dir: dir}}
	if os.Getenv(envHeld) != "" {
		if l.lower, l.err = held(dir); l.err != nil {
			return l.err
		}
	}
	stop := stopAt(os.Getenv(envStop))
	armed := false
	l.step = func(label string) error {
		if !armed {
			return nil
		}
		return stop(label)
	}
	if err := l.open(ctx); err != nil {
		return err
	}
	l.do(ctx, "", &volume.Create{Name: "other"})
	l.mount(ctx, "other")
	l.write("o", "1", true)
	l.do(ctx, "", &volume.Unmount{Name: "other"})
	armed = true
	l.work(ctx)
	if l.err == nil {
		l.err = l.close()
	}
	return l.err
}

func (l *life) work(ctx context.Context) {
	l.do(ctx, "committed", &volume.Create{Name: name})
	l.mount(ctx, name)
	l.write("a", "1", true)
	l.write("b", "1", false)
	first := l.do(ctx, "committed", &volume.Commit{Name: name}).Commit
	l.write("a", "2", true)
	l.write("c", "1", true)
	l.write("d/e", "1", true)
	l.write("b", "2", false)
	l.do(ctx, "committed", &volume.Commit{Name: name})
	l.write("a", "3", true)
	l.write("f", "1", false)
	l.do(ctx, "committed", &volume.Unmount{Name: name})
	l.mount(ctx, name)
	l.write("d/e", "2", true)
	l.write("b", "3", false)
	l.do(ctx, "", &volume.Set{Name: name, Options: map[string]string{"commit": volume.CommitManually}})
	l.do(ctx, "", &volume.Unmount{Name: name})
	l.mount(ctx, name)
	l.write("g", "1", true)
	l.do(ctx, "", &volume.Set{Name: name, Options: map[string]string{"commit": ""}})
	l.do(ctx, "committed", &volume.Unmount{Name: name})
	l.say("rolling", first.String())
	l.do(ctx, "rolled", &volume.Rollback{Name: name, To: first.String()})
	l.mount(ctx, name)
	l.write("h", "1", true)
	l.do(ctx, "committed", &volume.Unmount{Name: name})
	l.at = l.do(ctx, "", &volume.Mount{Name: name, User: container}).Path
	l.write("i", "1", true)
	l.leave(container)
	l.do(ctx, "committed", &volume.Unmount{Name: name, Gone: true})
	l.say("done")
}

func (l *life) say(words ...string) {
	if l.err == nil {
		fmt.Println(strings.Join(words, " "))
	}
}

func (l *life) do(ctx context.Context, what string, op volume.Operation) (res volume.Result) {
	if l.err != nil {
		return res
	}
	res, l.err = l.Do(ctx, op)
	if what != "" && l.err == nil {
		l.say(what, res.Commit.String())
	}
	if l.err == nil {
		l.err = l.Sweep(ctx)
	}
	return res
}

// leave has a user be gone, which is all that he says.
func (l *life) leave(user string) {
	if l.err == nil {
		_, l.err = l.Leave(name, user, "")
	}
	l.say("left", user)
}

func (l *life) mount(ctx context.Context, name string) {
	l.at = l.do(ctx, "", &volume.Mount{Name: name}).Path
}

// write writes a file and says so; if synced also that it is on the disk.
func (l *life) write(path, content string, synced bool) {
	if l.err != nil {
		return
	}
	at := filepath.Join(l.at, path)
	os.Mkdir(filepath.Dir(at), 0o755)
	if l.err = os.WriteFile(at, []byte(content), 0o644); l.err != nil {
		return
	}
	l.say("wrote", path, content)
	if !synced {
		return
	}
	for _, p := range []string{at, filepath.Dir(at), l.at} {
		if l.err = fsync(p); l.err != nil {
			return
		}
	}
	l.say("synced", path, content)
}

func fsync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fsync(int(f.Fd()))
}

// countUp commits while a file counts up, and loses power once the last commit is acknowledged.
func countUp(ctx context.Context, dir string) error {
	l := &life{machine: machine{dir: dir}}
	if err := l.open(ctx); err != nil {
		return err
	}
	l.do(ctx, "", &volume.Create{Name: name})
	l.mount(ctx, name)
	l.write("count", fmt.Sprintf(counter, 0), true)
	if l.err != nil {
		return l.err
	}
	counts, err := os.OpenFile(filepath.Join(l.at, "count"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	go func() {
		for n := 1; ; n++ {
			if _, err := counts.WriteAt(fmt.Appendf(nil, counter, n), 0); err != nil {
				return // the power is gone
			}
		}
	}()
	for range 3 {
		l.do(ctx, "committed", &volume.Commit{Name: name})
	}
	if l.err != nil {
		return l.err
	}
	return stopAt("committed:1")("committed")
}

// counter is how a number is written, always as long.
const counter = "%012d"
