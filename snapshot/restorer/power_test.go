//go:build real

package restorer_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/restorer"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

// powerDisk does not bring a file's content to the disk of its own accord when the file is renamed.
func powerDisk(t *testing.T) *disktest.Disk { return disktest.New(t, 128<<20, "noauto_da_alloc") }

var errCut = errors.New("the power is cut")

var logs = map[string]disktest.Log{"names kept": disktest.LogFlush, "names lost": disktest.NoLogFlush}

// olderOn is older in a directory of a disk, and on it.
func olderOn(t *testing.T, dst string) map[string]object {
	t.Helper()
	if err := os.Mkdir(dst, 0o700); err != nil {
		t.Fatal(err)
	}
	olderIn(t, dst)
	syncDisk(t, dst)
	return found(t, dst)
}

func syncDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
}

// oldOrNew fails if what was there before a power cut is neither what it was nor what it was to become.
func oldOrNew(t *testing.T, old, want map[string]object, dst string) {
	t.Helper()
	now := found(t, dst)
	for path, was := range old {
		becomes, stays := want[path]
		is, there := now[path]
		switch {
		case !there && stays:
			t.Errorf("%q is gone", path)
		case there && (is.Type != was.Type || is.Content != was.Content) && (is.Type != becomes.Type || is.Content != becomes.Content):
			t.Errorf("%q is neither the old nor the new one, but of type %s and content %q", path, is.Type, is.Content)
		}
	}
}

func TestRealAfterAPowerCutAtAnyStepFilesAreOldOrNewAndTheNextRunCompletes(t *testing.T) {
	s := open(t, tt.NewMemory(), unprivileged(), hardlinks...)
	want := wanted(t, s, "")
	var mu sync.Mutex
	steps := map[string]int{}
	restore(t, s, "", older(t), options{Delete: true, Step: func(label string) error {
		mu.Lock()
		defer mu.Unlock()
		steps[label]++
		return nil
	}})
	if len(steps) != 9 {
		t.Fatalf("steps taken: %v", steps)
	}
	for name, log := range logs {
		d := powerDisk(t)
		for label, times := range steps {
			for _, n := range slices.Compact([]int{1, (times + 1) / 2, times}) {
				t.Run(fmt.Sprint(name, " ", label, " ", n), func(t *testing.T) {
					dst := filepath.Join(d.Mount, fmt.Sprint(strings.ReplaceAll(label, " ", "-"), n))
					if err := os.RemoveAll(dst); err != nil {
						t.Fatal(err)
					}
					old := olderOn(t, dst)
					count := 0
					_, err := restorer.Restore(ctx, s, "", dst, options{Delete: true, Step: func(l string) error {
						mu.Lock()
						defer mu.Unlock()
						if l != label {
							return nil
						}
						if count++; count != n {
							return nil
						}
						return errors.Join(errCut, disktest.Cut(d.Mount, log))
					}})
					if err == nil || count < n {
						t.Fatalf("the power was not cut: %v", err)
					}
					d.Remount(t)
					oldOrNew(t, old, want, dst)
					restore(t, s, "", dst, options{Delete: true})
					equal(t, s, "", dst)
				})
			}
		}
	}
}

// The file that a link leads to is new, and nothing else of the restore brings its content to the disk.
func TestRealAfterAPowerCutAHardlinkHasTheOldOrTheNewContent(t *testing.T) {
	linked := tt.File("linked")
	root := tt.Dir(map[string]tt.Node{"a": tt.Dir(map[string]tt.Node{"first": linked}), "second": linked})
	s := open(t, tt.NewMemory(), root, meta.Hardlink{Path: "second", Leader: "a/first"})
	before := open(t, tt.NewMemory(), tt.Dir(map[string]tt.Node{"second": tt.File("not linked")}))
	want := wanted(t, s, "")
	var mu sync.Mutex
	d := powerDisk(t)
	for n, done := 1, false; !done; n++ {
		dst := filepath.Join(d.Mount, fmt.Sprint(n))
		restore(t, before, "", dst, options{})
		old := found(t, dst)
		count := 0
		_, err := restorer.Restore(ctx, s, "", dst, options{Workers: 1, Step: func(string) error {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == n {
				return errors.Join(errCut, disktest.Cut(d.Mount, disktest.LogFlush))
			}
			return nil
		}})
		if done = err == nil; done && n < 8 {
			t.Errorf("the restore took only %d steps", n-1)
		}
		d.Remount(t)
		oldOrNew(t, old, want, dst)
		restore(t, s, "", dst, options{})
		equal(t, s, "", dst)
	}
}

func TestRealAPowerCutAfterARestoreLosesNothing(t *testing.T) {
	s := open(t, tt.NewMemory(), manySmall(), hardlinks...)
	for name, log := range logs {
		t.Run(name, func(t *testing.T) {
			d := powerDisk(t)
			onOlder, fresh := filepath.Join(d.Mount, "older"), filepath.Join(d.Mount, "fresh")
			olderOn(t, onOlder)
			for _, dst := range []string{onOlder, fresh} {
				restore(t, s, "", dst, options{Delete: true})
				if err := disktest.Cut(d.Mount, log); err != nil {
					t.Fatal(err)
				}
				d.Remount(t)
				equal(t, s, "", dst)
			}
			equal(t, s, "", onOlder)
		})
	}
}
