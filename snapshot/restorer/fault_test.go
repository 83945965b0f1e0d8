package restorer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/unixfs"
)

// TestMain is also the way into the processes that tests start.
func TestMain(m *testing.M) {
	switch os.Getenv("RESTORER_TEST_CHILD") {
	case "":
		os.Exit(m.Run())
	case "restore":
		restoreUntilKilled(os.Args[1], os.Args[2])
	case "tests":
		os.Exit(m.Run())
	}
}

// older is a directory that needs every kind of step to become unprivileged.
func older(t *testing.T) string {
	t.Helper()
	dst := tempDir(t)
	olderIn(t, dst)
	return dst
}

func olderIn(t *testing.T, dst string) {
	t.Helper()
	n := unprivileged()
	n.Children["script"] = tt.File("an older script")
	n.Children["large"] = tt.File(noise(9, 300_000))
	n.Children["link"] = tt.Symlink("older")
	n.Children["a-second"] = tt.File("linked")
	n.Children["surplus"] = tt.Dir(map[string]tt.Node{"f": tt.File("gone soon")})
	delete(n.Children, "empty")
	delete(n.Children, "xattrdir")
	n.Children["emptydir"] = n.Children["emptydir"].With(mode(0o777))
	restore(t, open(t, tt.NewMemory(), n), "", dst, options{})
}

// wholeFiles fails if a file is neither the old nor the new one, or a temporary file is left.
func wholeFiles(t *testing.T, want, old map[string]object, dst string) {
	t.Helper()
	for path, o := range found(t, dst) {
		if strings.Contains(path, restorer.TempPrefix) {
			t.Errorf("%q is left", path)
		}
		if o.Content != want[path].Content && o.Content != old[path].Content {
			t.Errorf("%q is neither the old nor the new one", path)
		}
	}
}

func TestAfterAFaultAtAnyStepFilesAreWholeAndTheNextRunCompletes(t *testing.T) {
	s := open(t, tt.NewMemory(), unprivileged(), hardlinks...)
	var mu sync.Mutex
	steps := map[string]int{}
	restore(t, s, "", older(t), options{Delete: true, Step: func(label string) error {
		mu.Lock()
		defer mu.Unlock()
		steps[label]++
		return nil
	}})
	all := []string{restorer.StepMkdir, restorer.StepCreate, restorer.StepWrite, restorer.StepAttrs, restorer.StepRename,
		restorer.StepLink, restorer.StepSpecial, restorer.StepRemove, restorer.StepSync}
	if got := slices.Sorted(maps.Keys(steps)); len(got) != len(all) {
		t.Fatalf("steps taken: %v", got)
	}
	fault := errors.New("fault")
	for _, label := range all {
		for _, n := range []int{1, (steps[label] + 1) / 2, steps[label]} {
			t.Run(fmt.Sprint(label, n), func(t *testing.T) {
				dst := older(t)
				old := found(t, dst)
				count := 0
				_, err := restorer.Restore(ctx, s, "", dst, options{Delete: true, Step: func(l string) error {
					mu.Lock()
					defer mu.Unlock()
					if l == label {
						if count++; count == n {
							return fault
						}
					}
					return nil
				}})
				if !errors.Is(err, fault) {
					t.Fatalf("the fault is told as %v", err)
				}
				wholeFiles(t, wanted(t, s, ""), old, dst)
				restore(t, s, "", dst, options{Delete: true})
				equal(t, s, "", dst)
			})
		}
	}
}

func TestACancelledRestoreEndsAndCanGoOn(t *testing.T) {
	s := open(t, tt.NewMemory(), unprivileged(), hardlinks...)
	files, ended := descriptors(t), 0
	for after := int64(1); after < 120; after += 7 {
		dst := older(t)
		old := found(t, dst)
		cancelled, cancel := context.WithCancel(ctx)
		var steps atomic.Int64
		_, err := restorer.Restore(cancelled, s, "", dst, options{Delete: true, Step: func(string) error {
			if steps.Add(1) == after {
				cancel()
			}
			return nil
		}})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err != nil {
			ended++
		}
		wholeFiles(t, wanted(t, s, ""), old, dst)
		restore(t, s, "", dst, options{Delete: true})
		equal(t, s, "", dst)
	}
	if ended < 5 {
		t.Errorf("only %d restores were cancelled in time", ended)
	}
	if now := descriptors(t); now != files {
		t.Errorf("%d descriptors are open, before it were %d", now, files)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func TestAMissingBlockNamesFileAndCIDAndLeavesNothingHalfWritten(t *testing.T) {
	b := tt.NewMemory()
	s := open(t, b, unprivileged(), hardlinks...)
	chunk := unixfs.Leaf([]byte(noise(2, 300_000)[4096*40 : 4096*41])).Cid()
	small := unixfs.Leaf([]byte("odd name")).Cid()
	want := wanted(t, s, "")
	for c, name := range map[string]string{chunk.String(): "large", small.String(): `\xff\xfe\n`} {
		lost := chunk
		if c == small.String() {
			lost = small
		}
		b.Lose(lost)
		dst := tempDir(t)
		_, err := restorer.Restore(ctx, s, "", dst, options{})
		if !errors.Is(err, snapshot.ErrNotFound) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), c) {
			t.Errorf("%s: %v", name, err)
		}
		wholeFiles(t, want, nil, dst)
		b.Find(lost)
		restore(t, s, "", dst, options{})
		equal(t, s, "", dst)
	}
}

// restoreUntilKilled restores one snapshot and another, until it kills itself in the middle of a step.
func restoreUntilKilled(dst, step string) {
	last, err := strconv.Atoi(step)
	if err != nil {
		panic(err)
	}
	t := &testing.T{}
	s := open(t, tt.NewMemory(), unprivileged(), hardlinks...)
	newer := open(t, tt.NewMemory(), tt.Dir(map[string]tt.Node{"script": tt.File("other"), "large": tt.File(noise(4, 200_000))}))
	var steps atomic.Int64
	kill := func(string) error {
		if steps.Add(1) == int64(last) {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}
	for {
		for _, s := range []*tree.Snapshot{s, newer} {
			if _, err := restorer.Restore(ctx, s, "", dst, options{Delete: true, Step: kill}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
}

func TestAfterAKillTheNextRunCompletes(t *testing.T) {
	s := open(t, tt.NewMemory(), unprivileged(), hardlinks...)
	dst := filepath.Join(tempDir(t), "dst")
	for step := 1; step < 250; step += 17 {
		child := exec.Command(os.Args[0], dst, strconv.Itoa(step))
		child.Env = append(os.Environ(), "RESTORER_TEST_CHILD=restore")
		out, err := child.CombinedOutput()
		if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
			t.Fatalf("the child was not killed at step %d: %v\n%s", step, err, out)
		}
		restore(t, s, "", dst, options{Delete: true})
		equal(t, s, "", dst)
	}
}
