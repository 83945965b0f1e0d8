//go:build real

package view_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/view"
)

// state is the i-th of a sequence of snapshots: every file says which it is of.
func state(t testing.TB, b snapshot.Blocks, i int) cid.Cid {
	text := fmt.Sprint(i)
	dir := func() tt.Node {
		return tt.Dir(map[string]tt.Node{"a": tt.File(text), "b": tt.File(text), "deep": tt.Dir(map[string]tt.Node{"c": tt.File(text)})})
	}
	root := tt.Dir(map[string]tt.Node{
		"a": tt.File(text), "big": tt.File(strings.Repeat(fmt.Sprintf("%09d\n", i), 300_000)), "d": dir(), "e": dir(),
		"only" + text: tt.File(text), "xattr": tt.File(text).With(xattr("user.state", text)),
	}).With(mode(uint16(0o755 &^ (i % 2 * 0o005))))
	for k := range i % 3 { // numbers are of other entries in each
		root.Children[fmt.Sprint("0", k)] = tt.File("")
	}
	return tt.Commit(t, b, root)
}

// following is a mount that is made to show one state after another.
type following struct {
	testing.TB
	b   snapshot.Blocks
	dir string
	srv *view.Server
	log *lines
}

func follow(t testing.TB, b snapshot.Blocks, c cid.Cid) *following {
	f := &following{TB: t, b: b, dir: t.TempDir(), log: &lines{}}
	guard(t, f.dir)
	var err error
	f.srv, err = view.Mount(ctx, open(t, b, c), f.dir, f.options())
	must(t, err)
	t.Cleanup(func() {
		if err := view.Unmount(f.dir); err != nil {
			t.Error(err)
			view.Detach(f.dir)
		}
		f.srv.Wait()
	})
	return f
}

func (f *following) options() view.Options { return view.Options{Follow: true, AllowOther: true} }

func (f *following) show(c cid.Cid) {
	f.Helper()
	must(f, f.srv.Follow(ctx, open(f, f.b, c), nil))
}

func (f *following) want(path, text string) {
	f.Helper()
	if got, err := os.ReadFile(filepath.Join(f.dir, path)); err != nil || string(got) != text {
		f.Errorf("%s: %.20q, %v, want %q", path, got, err, text)
	}
}

// settled waits until the kernel let go of all states but some. What was used lately it lets go of when it is told to
// again; what it forgot when a server had ended is seen when the next state is shown.
func (f *following) settled(n int) {
	f.Helper()
	for deadline := time.Now().Add(time.Minute); len(f.srv.Generations()) > n; time.Sleep(20 * time.Millisecond) {
		must(f, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		f.show(f.srv.Generations()[0].Root)
		if time.Now().After(deadline) {
			f.Errorf("%d states are kept: %v", len(f.srv.Generations()), f.srv.Generations())
			return
		}
	}
}

func TestRealAFollowingMountShowsOneStateAfterAnother(t *testing.T) {
	b := tt.NewMemory()
	f := follow(t, b, state(t, b, 0))
	bound := t.TempDir()
	must(t, unix.Mount(f.dir, bound, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(bound, 0)) })
	for i := range 7 {
		if i > 0 {
			f.show(state(t, b, i))
		}
		text := fmt.Sprint(i)
		for _, path := range []string{"a", "d/a", "d/deep/c", "e/b", "only" + text} {
			f.want(path, text)
			if got, err := os.ReadFile(filepath.Join(bound, path)); err != nil || string(got) != text {
				t.Errorf("%s, bound: %q, %v, want %q", path, got, err, text)
			}
		}
		for _, path := range []string{fmt.Sprint("only", i-1), fmt.Sprint("only", i+1)} {
			if _, err := os.Lstat(filepath.Join(f.dir, path)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s in state %d: %v", path, i, err)
			}
		}
		if got := names(t, f.dir); len(got) != 6+i%3 {
			t.Errorf("state %d lists %q", i, got)
		}
		buf := make([]byte, 10)
		if n, err := unix.Getxattr(f.dir+"/xattr", "user.state", buf); err != nil || string(buf[:n]) != text {
			t.Errorf("attribute %q, %v", buf[:max(n, 0)], err)
		}
		if st := statOf(t, f.dir); st.Mode&0o7 != uint32(0o5&^(i%2*0o5)) || st.Ino != 1 {
			t.Errorf("root of state %d: mode %o, inode %d", i, st.Mode, st.Ino)
		}
	}
}

// mapped is what is in a mapping of a file that this process serves. The kernel reads it: a page fault of a Go program's
// own, which the server is to answer, keeps the garbage collector waiting, which keeps the server from running.
func mapped(t *testing.T, m []byte) []byte {
	t.Helper()
	fd, err := unix.MemfdCreate("mapped", unix.MFD_CLOEXEC)
	must(t, err)
	defer unix.Close(fd)
	n, err := unix.Write(fd, m)
	must(t, err)
	got := make([]byte, n)
	_, err = unix.Pread(fd, got, 0)
	must(t, err)
	return got
}

func TestRealWhatIsOpenStaysWhatItWas(t *testing.T) {
	b := tt.NewMemory()
	f := follow(t, b, state(t, b, 0))
	file, err := os.Open(f.dir + "/d/deep/c")
	must(t, err)
	big, err := os.Open(f.dir + "/big")
	must(t, err)
	m, err := unix.Mmap(int(big.Fd()), 0, 3_000_000, unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	cwd, err := os.OpenRoot(f.dir + "/d") // names in it are looked up as those of a working directory are
	must(t, err)
	stream, err := os.Open(f.dir)
	must(t, err)
	first, err := stream.Readdirnames(1)
	must(t, err)
	for i := 1; i < 20; i++ {
		f.show(state(t, b, i))
		f.want("d/deep/c", fmt.Sprint(i))
		must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
		unix.Fadvise(int(big.Fd()), 0, 0, unix.FADV_DONTNEED)
		if got, err := io.ReadAll(io.NewSectionReader(file, 0, 10)); err != nil || string(got) != "0" {
			t.Fatalf("an open file: %q, %v", got, err)
		}
		at := i * 100_000
		if got := mapped(t, m[at:at+10]); string(got) != "000000000\n" {
			t.Fatalf("a mapped file: %q", got)
		}
		for _, name := range []string{"a", "deep/c"} {
			got, err := cwd.Open(name)
			must(t, err)
			if text, err := io.ReadAll(got); err != nil || string(text) != "0" {
				t.Fatalf("in an open directory: %q, %v", text, err)
			}
			must(t, got.Close())
		}
	}
	rest, err := stream.Readdirnames(-1)
	must(t, err)
	if got := strings.Join(append(first, rest...), " "); got != "a big d e only0 xattr" {
		t.Errorf("who lists the root while it changes sees %s", got)
	}
	if n := len(f.srv.Generations()); n < 2 || f.srv.Generations()[1].Root != state(t, b, 0) {
		t.Errorf("states in use: %v", f.srv.Generations())
	}
	must(t, unix.Munmap(m))
	for _, c := range []io.Closer{file, big, cwd, stream} {
		must(t, c.Close())
	}
	f.settled(1)
}

// TestRealWhoWalksSeesNoErrorAndNoMixture has programs walk while 200 states are shown, one after another.
func TestRealWhoWalksSeesNoErrorAndNoMixture(t *testing.T) {
	const states = 200
	b := tt.NewMemory()
	all := make([]cid.Cid, states)
	for i := range all {
		text := fmt.Sprint(i)
		dir := tt.Dir(map[string]tt.Node{"a": tt.File(text), "b": tt.File(text), "deep": tt.Dir(map[string]tt.Node{"c": tt.File(text)})})
		root := tt.Dir(map[string]tt.Node{"a": tt.File(text), "big": tt.File(strings.Repeat(fmt.Sprintf("%09d\n", i), 20_000)), "d": dir})
		var links []meta.Hardlink
		if i%2 > 0 {
			root.Children["0"] = tt.File(text)
			links = append(links, meta.Hardlink{Path: "a", Leader: "0"})
		}
		all[i] = tt.Commit(t, b, root, links...)
	}
	f := follow(t, b, all[0])
	var done atomic.Bool
	var work sync.WaitGroup
	var walked atomic.Int64
	var shown atomic.Int64 // the number of a state that is shown, or was
	read := func(r *os.Root, name string) int {
		file, err := r.Open(name)
		if err != nil {
			t.Error(err)
			return -1
		}
		defer file.Close()
		text, err := io.ReadAll(file)
		line, _, _ := strings.Cut(string(text), "\n")
		n, parse := strconv.Atoi(line)
		if err != nil || parse != nil {
			t.Errorf("%s: %v, %v", name, err, parse)
		}
		if name == "big" && (len(text) != 200_000 || strings.Count(string(text), string(text[:10])) != 20_000) {
			t.Errorf("a file of %d bytes is of several states", len(text))
		}
		walked.Add(1)
		return n
	}
	for range 3 {
		work.Go(func() {
			root, err := os.OpenRoot(f.dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer root.Close()
			for last := 0; !done.Load() && !t.Failed(); {
				least := int(shown.Load())
				for _, name := range []string{"a", "big", "d/a", "d/deep/c", "a"} {
					n := read(root, name)
					if n < last || n < least {
						t.Errorf("%s is of state %d, after %d was shown and %d read", name, n, least, last)
					}
					last = n
				}
				d, err := root.OpenRoot("d")
				if err != nil {
					t.Error(err)
					return
				}
				if a, b, c := read(d, "a"), read(d, "b"), read(d, "deep/c"); a != b || b != c {
					t.Errorf("a directory has files of the states %d, %d and %d", a, b, c)
				}
				d.Close()
			}
		})
	}
	work.Go(func() {
		for !done.Load() && !t.Failed() {
			for _, dir := range []string{"", "d", "d/deep"} {
				if got := names(t, filepath.Join(f.dir, dir)); len(got) < 1 {
					t.Errorf("%q lists %q", dir, got)
				}
			}
		}
	})
	work.Go(func() {
		for !done.Load() && !t.Failed() {
			if out, err := exec.Command("find", f.dir).CombinedOutput(); err != nil || bytes.Count(out, []byte{'\n'}) < 8 {
				t.Errorf("find: %v, %s", err, out)
			}
		}
	})
	for i, c := range all {
		f.show(c)
		shown.Store(int64(i))
		for deadline := time.Now().Add(time.Minute); walked.Load() < int64(10*(i+1)) && !t.Failed(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("only %d files were read while %d states were shown", walked.Load(), i+1)
			}
		}
	}
	done.Store(true)
	work.Wait()
	t.Logf("%d files read, %d states kept at the end", walked.Load(), len(f.srv.Generations()))
	f.settled(1)
}

func TestRealAnotherServerGoesOnWithAllStatesInUse(t *testing.T) {
	b := tt.NewMemory()
	bare := func(i int) cid.Cid { // without a sidecar
		return tt.CommitOf(t, b, tt.Tree(t, b, tt.Dir(map[string]tt.Node{"d": tt.Dir(map[string]tt.Node{"a": tt.File(fmt.Sprint(i)), "b": tt.File(fmt.Sprint(i))})})), cid.Undef)
	}
	for name, of := range map[string]func(int) cid.Cid{"with a sidecar": func(i int) cid.Cid { return state(t, b, i) }, "without": bare} {
		t.Run(name, func(t *testing.T) {
			f := follow(t, b, of(0))
			for i := range 5 {
				file, err := os.Open(f.dir + "/d/a")
				must(t, err)
				dir, err := os.OpenRoot(f.dir + "/d")
				must(t, err)
				f.show(of(i + 1))
				c := f.srv.Connection()
				c.Device, c.Table = dup(t, c.Device), dup(t, c.Table)
				f.srv.Stop()
				got := make(chan error, 1)
				go func() { _, err := os.ReadDir(f.dir); got <- err }()
				f.srv, err = view.Resume(ctx, open(t, b, of(i+1)), c, f.options())
				must(t, err)
				must(t, <-got)
				f.want("d/a", fmt.Sprint(i+1))
				unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
				if text, err := io.ReadAll(file); err != nil || string(text) != fmt.Sprint(i) {
					t.Errorf("an open file of state %d: %q, %v", i, text, err)
				}
				if text, err := dir.ReadFile("b"); err != nil || string(text) != fmt.Sprint(i) {
					t.Errorf("in an open directory of state %d: %q, %v", i, text, err)
				}
				must(t, file.Close())
				must(t, dir.Close())
			}
			f.settled(1)
		})
	}
}
