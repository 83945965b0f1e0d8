//go:build real

package holder_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
)

// follow shows one state after another, over and over, until the process is told to end or is killed.
func (j childJob) follow(b snapshot.Blocks, l *holder.Lower) error {
	var states []*tree.Snapshot
	for text := range strings.SplitSeq(j.Follow, ",") {
		root, err := cid.Decode(text)
		if err != nil {
			return err
		}
		s, err := tree.Open(ctx, b, root)
		if err != nil {
			return err
		}
		states = append(states, s)
	}
	if err := l.Mount(ctx, states[0], j.Dir, volume.MountOptions{ReadOnly: true, Follow: true, Foreign: true}); err != nil {
		return err
	}
	fmt.Println("mounted")
	var ended atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		ended.Store(true)
	}()
	for i := rand.IntN(len(states)); !ended.Load(); i++ {
		if _, err := l.Follow(ctx, states[i%len(states)], j.Dir); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
	}
	return l.Unmount(ctx, j.Dir)
}

// stateText is the content of the files of a state.
func stateText(state, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "state %03d\n", state), size/10+1)
}

var stateFiles = map[string]int{"f": 10, "big": 2 << 20, "d/a": 20, "d/b": 300_000, "d/e/c": 10}

func stateOf(b []byte) (state int, err error) {
	if _, err = fmt.Sscanf(string(b[:min(len(b), 10)]), "state %d", &state); err != nil {
		return 0, fmt.Errorf("%.20q is of no state: %w", b, err)
	}
	if !bytes.Equal(b, stateText(state, len(b)-10)) {
		return 0, fmt.Errorf("%d bytes of state %d are not those of one state", len(b), state)
	}
	return state, nil
}

func TestRealProgramsInAMountThatFollowsDoNotNoticeThatItsServerIsKilled(t *testing.T) {
	const states = 8
	base := t.TempDir()
	j := childJob{Store: filepath.Join(base, "store"), Dir: filepath.Join(base, "mount"), Socket: filepath.Join(base, "holder.sock")}
	must(t, os.Mkdir(j.Dir, 0o755))
	var roots []string
	for i := range states {
		src := filepath.Join(base, fmt.Sprint("src", i))
		for name, size := range stateFiles {
			must(t, os.MkdirAll(filepath.Join(src, filepath.Dir(name)), 0o755))
			must(t, os.WriteFile(filepath.Join(src, name), stateText(i, size), 0o644))
		}
		for k := range i { // so that an entry has another number in each state
			must(t, os.WriteFile(filepath.Join(src, fmt.Sprint("0", k)), nil, 0o644))
		}
		roots = append(roots, kept(t, j.Store, src))
	}
	j.Follow = strings.Join(roots, ",")
	t.Cleanup(func() { unix.Unmount(j.Dir, unix.MNT_DETACH) }) // what a failed test leaves
	server, stop := serving(t, j)
	user, end, said := child(t, childJob{Use: j.Dir, Follow: "used"})
	ops := counted(said)
	for i := 0; i < kills || ops() < kills && i < 10*kills; i++ {
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		must(t, server.Process.Kill())
		server.Wait()
		if i%8 == 0 {
			must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		}
		server, stop = serving(t, j)
	}
	if n := ops(); n < kills {
		t.Errorf("only %d operations in %d lives of the server", n, 10*kills)
	}
	must(t, end.Close())
	if err := user.Wait(); err != nil {
		t.Errorf("programs in the mount: %v", err)
	}
	must(t, stop.Close())
	must(t, server.Wait())
}

// useFollowing reads in a mount that follows until the standard input ends, and prints a line each time.
func useFollowing(at string) error {
	var done atomic.Bool
	var work sync.WaitGroup
	errs := make(chan error, 16)
	worker := func(f func() error) {
		work.Go(func() {
			for !done.Load() {
				if err := f(); err != nil {
					errs <- err
					return
				}
				fmt.Println()
			}
		})
	}
	for range 2 {
		worker(func() error { return openStays(at) })
		worker(func() error { return directoryIsOne(at) })
	}
	worker(func() error {
		es, err := os.ReadDir(at)
		if err == nil && len(es) < 3 {
			err = fmt.Errorf("the root lists %v", es)
		}
		return err
	})
	io.Copy(io.Discard, os.Stdin)
	done.Store(true)
	work.Wait()
	close(errs)
	var failed []error
	for err := range errs {
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// openStays reads a file again and again, by descriptor and by mapping.
func openStays(at string) error {
	f, err := os.Open(filepath.Join(at, "big"))
	if err != nil {
		return err
	}
	defer f.Close()
	size := len(stateText(0, stateFiles["big"]))
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(m)
	first := -1
	for range 5 {
		got, err := io.ReadAll(io.NewSectionReader(f, 0, int64(size)+1))
		if err != nil {
			return err
		}
		state, err := stateOf(got)
		if err != nil {
			return err
		}
		if first < 0 {
			first = state
		}
		if k := rand.IntN(size); state != first || m[k] != got[k] {
			return fmt.Errorf("an open file of state %d is of state %d, mapped byte %d is %d, want %d", first, state, k, m[k], got[k])
		}
		unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	return nil
}

// directoryIsOne opens a directory, and wants all in it to be of one state.
func directoryIsOne(at string) error {
	d, err := os.OpenRoot(filepath.Join(at, "d"))
	if err != nil {
		return err
	}
	defer d.Close()
	first := -1
	for _, name := range []string{"a", "b", "e/c", "a"} {
		got, err := d.ReadFile(name)
		if err != nil {
			return err
		}
		state, err := stateOf(got)
		if err != nil {
			return err
		}
		if first < 0 {
			first = state
		}
		if state != first {
			return fmt.Errorf("d of state %d has %s of state %d", first, name, state)
		}
	}
	return nil
}
