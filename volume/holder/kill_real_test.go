//go:build real

package holder_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/overlay"
)

// childEnv makes the test's program a holder or a server instead.
const childEnv = "VOLARY_HOLDER_TEST"

type childJob struct{ Hold, Store, Root, Dir, Socket, Use, Follow string }

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		var j childJob
		err := json.Unmarshal([]byte(job), &j)
		if err == nil {
			err = j.run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func (j childJob) run() error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if j.Hold != "" {
		return holder.Hold(ctx, j.Hold, holder.HoldOptions{Idle: time.Second, Logger: log, Ready: func() {
			os.NewFile(3, "ready").Write([]byte{1})
		}})
	}
	switch {
	case j.Use != "" && j.Follow != "":
		return useFollowing(j.Use)
	case j.Use != "":
		return use(j.Use)
	}
	hold, err := json.Marshal(childJob{Hold: j.Socket})
	if err != nil {
		return err
	}
	st, err := store.Open(j.Store, store.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	self := []string{"/usr/bin/env", childEnv + "=" + string(hold), "/proc/self/exe"}
	if exe, err := os.Executable(); err == nil {
		self[2] = exe
	}
	l := holder.NewLower(holder.LowerOptions{Holder: &holder.Client{Socket: j.Socket, Command: self}, Logger: log})
	if j.Follow != "" {
		return j.follow(st, l)
	}
	root, err := cid.Decode(j.Root)
	if err != nil {
		return err
	}
	s, err := tree.Open(ctx, st, root)
	if err != nil {
		return err
	}
	m := overlay.New(l)
	if err := m.Mount(ctx, s, j.Dir, volume.MountOptions{}); err != nil {
		return err
	}
	fmt.Println("mounted")
	end := "unmount"
	fmt.Scanln(&end) // until the test says so, or kills
	if end == "unmount" {
		return m.Unmount(ctx, j.Dir)
	}
	return errors.Join(l.Close(), st.Close()) // what of it is wrong shows before the process ends
}

// serving starts a process that serves the mount, and returns once it does.
func serving(t *testing.T, j childJob) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	cmd, in, out := child(t, j)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "mounted\n" {
		cmd.Process.Kill()
		t.Fatalf("server said %q, %v: %v", line, err, cmd.Wait())
	}
	return cmd, in
}

func child(t *testing.T, j childJob) (*exec.Cmd, io.WriteCloser, io.Reader) {
	t.Helper()
	b, err := json.Marshal(j)
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return cmd, in, out
}

// kept stores a directory as a snapshot, and closes the store.
func kept(t *testing.T, dir, src string) string {
	t.Helper()
	st, err := store.Open(dir, store.Options{})
	must(t, err)
	r, err := importer.Import(ctx, st, src, importer.Options{})
	must(t, err)
	c := r.Commit
	c.Time, c.Consistency = time.Unix(1e9, 0), snapshot.Clean
	must(t, snapshot.Extend(ctx, st, c))
	blk, err := snapshot.EncodeCommit(c)
	must(t, err)
	must(t, st.Put(ctx, blk))
	must(t, st.Sync(ctx))
	must(t, st.Close())
	return blk.Cid().String()
}

func content(name string, n int) []byte {
	sum := sha256.Sum256([]byte(name))
	b := make([]byte, n)
	rand.NewChaCha8(sum).Read(b)
	return b
}

// contentOf is that of a file of the snapshot.
func contentOf(name string) []byte {
	var i int
	fmt.Sscanf(filepath.Base(name), "f%d", &i)
	return content(name, []int{100, 5000, 70_000, 1<<20 + 17, 3 << 20}[i%5])
}

const (
	files, dirs = 60, 4
	kills       = 40
)

func names() []string {
	var all []string
	for d := range dirs {
		for f := range files {
			all = append(all, fmt.Sprintf("d%d/f%d", d, f))
		}
	}
	return all
}

func TestRealProgramsInAMountDoNotNoticeThatItsServerIsKilled(t *testing.T) {
	base := t.TempDir()
	src := filepath.Join(base, "src")
	for _, name := range names() {
		must(t, os.MkdirAll(filepath.Join(src, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(src, name), contentOf(name), 0o644))
	}
	j := childJob{Store: filepath.Join(base, "store"), Dir: filepath.Join(base, "mount"), Socket: filepath.Join(base, "holder.sock")}
	must(t, os.Mkdir(j.Dir, 0o755))
	j.Root = kept(t, j.Store, src)
	t.Cleanup(func() { // what a failed test leaves; the holder ends with its mounts
		for _, m := range []string{"merged", "closed/base"} {
			unix.Unmount(filepath.Join(j.Dir, m), unix.MNT_DETACH)
		}
	})
	server, stop := serving(t, j)
	user, end, said := child(t, childJob{Use: filepath.Join(j.Dir, "merged")})
	ops := counted(said)
	for i := 0; i < kills || ops() < kills && i < 10*kills; i++ {
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		if i%3 == 2 {
			_, err := io.WriteString(stop, "leave\n")
			must(t, err)
		} else {
			must(t, server.Process.Kill())
		}
		server.Wait()
		if i%8 == 0 {
			// Names and attributes are asked for again.
			must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		}
		server, stop = serving(t, j)
	}
	if n := ops(); n < kills {
		t.Errorf("only %d operations in %d lives of the server: the kills hit nothing", n, 10*kills)
	}
	must(t, end.Close())
	if err := user.Wait(); err != nil {
		t.Errorf("programs in the mount: %v", err)
	}
	must(t, stop.Close())
	must(t, server.Wait())
	c := holder.Client{Socket: j.Socket}
	if held, err := c.List(ctx); err != nil || len(held) > 0 {
		t.Errorf("after the end %q are held, %v", held, err)
	}
}

// counted counts the lines that are said.
func counted(said io.Reader) func() int64 {
	var n atomic.Int64
	go func() {
		for lines := bufio.NewScanner(said); lines.Scan(); {
			n.Add(1)
		}
	}()
	return n.Load
}

// use reads and writes in a mount until the standard input ends, compares everything, and prints a line for each thing it
// did. It is a process of its own: a page fault that waits for a server stops a whole Go program.
func use(at string) error {
	var done atomic.Bool
	var work sync.WaitGroup
	errs := make(chan error, 16)
	worker := func(f func(r *rand.Rand) error) {
		seed := rand.Uint64()
		work.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for !done.Load() {
				if err := f(r); err != nil {
					errs <- fmt.Errorf("seed %d: %w", seed, err)
					return
				}
				fmt.Println()
			}
		})
	}
	all := names()
	for range 3 {
		worker(func(r *rand.Rand) error { return readBack(at, all[r.IntN(len(all))]) })
	}
	worker(func(r *rand.Rand) error { return mapped(at, all[r.IntN(len(all))], r) })
	worker(func(*rand.Rand) error { return listed(at) })
	for w := range 2 {
		own := filepath.Join(at, fmt.Sprint("new", w))
		if err := os.Mkdir(own, 0o755); err != nil {
			return err
		}
		worker(func(r *rand.Rand) error { return writeBack(at, own, all, r) })
	}
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

// readBack reads a file of the snapshot anew.
func readBack(at, name string) error {
	f, err := os.Open(filepath.Join(at, name))
	if err != nil {
		return err
	}
	defer f.Close()
	defer unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	got, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if want := contentOf(name); !bytes.Equal(got, want) {
		return fmt.Errorf("%s: read %d bytes that are not the %d of the snapshot", name, len(got), len(want))
	}
	return nil
}

// mapped faults pages of a file in.
func mapped(at, name string, r *rand.Rand) error {
	f, err := os.Open(filepath.Join(at, name))
	if err != nil {
		return err
	}
	defer f.Close()
	want := contentOf(name)
	n := len(want)
	unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	m, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(m)
	for range 20 {
		if k := r.IntN(n); m[k] != want[k] {
			return fmt.Errorf("%s: byte %d is %d, want %d", name, k, m[k], want[k])
		}
	}
	return nil
}

func listed(at string) error {
	for d := range dirs {
		es, err := os.ReadDir(filepath.Join(at, fmt.Sprint("d", d)))
		if err != nil {
			return err
		}
		n := 0
		for _, e := range es {
			if info, err := e.Info(); err != nil {
				return err
			} else if strings.HasPrefix(e.Name(), "f") && info.Size() > 0 {
				n++
			}
		}
		if n != files {
			return fmt.Errorf("d%d has %d files, want %d", d, n, files)
		}
	}
	return nil
}

// writeBack writes a file anew, and changes a copy-up's attributes, then looks at both.
func writeBack(at, own string, names []string, r *rand.Rand) error {
	name := filepath.Join(own, fmt.Sprint(r.IntN(20)))
	want := content(fmt.Sprint(r.Uint64()), r.IntN(200_000))
	if err := os.WriteFile(name, want, 0o644); err != nil {
		return err
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("%s: not what was written, %w", name, err)
	}
	lower := names[r.IntN(len(names))]
	if err := os.Chtimes(filepath.Join(at, lower), time.Unix(1e9, 0), time.Unix(int64(r.IntN(1e9)), 0)); err != nil {
		return err
	}
	return readBack(at, lower)
}

func TestRealAHolderKeepsOneProcess(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "holder.sock")
	hold, err := json.Marshal(childJob{Hold: socket})
	must(t, err)
	c := &holder.Client{Socket: socket, Command: []string{"/usr/bin/env", childEnv + "=" + string(hold), os.Args[0]}}
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if err := c.Put(ctx, fmt.Sprint(i), []byte("data"), w); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	must(t, w.Close())
	names, err := c.List(ctx)
	must(t, err)
	if len(names) != 4 {
		t.Errorf("held: %q", names)
	}
	data, files, err := c.Get(ctx, "2")
	must(t, err)
	if string(data) != "data" || len(files) != 1 {
		t.Fatalf("got %q and %d files", data, len(files))
	}
	must(t, files[0].Close())
	for i := range 4 {
		must(t, c.Drop(ctx, fmt.Sprint(i)))
	}
	// Every copy of the pipe's end is closed.
	if n, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
}
