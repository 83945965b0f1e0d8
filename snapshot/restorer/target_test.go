package restorer_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/restorer"
	tt "github.com/volary/volary/snapshot/tree/treetest"
)

func TestWhatTheSnapshotDoesNotHaveGoesOnlyWhenAsked(t *testing.T) {
	s := open(t, tt.NewMemory(), tt.Dir(map[string]tt.Node{"keep": tt.File("1"), "d": tt.Dir(map[string]tt.Node{"in": tt.File("2")})}))
	dst, outside := tempDir(t), tempDir(t)
	if err := os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"x", "d/y", "more/deep/z"} {
		p = filepath.Join(dst, p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dst, "more/out")); err != nil {
		t.Fatal(err)
	}
	if r := restore(t, s, "", dst, options{}); r.Extra != 3 || r.Removed != 0 {
		t.Errorf("%+v", r)
	}
	if r := restore(t, s, "", dst, options{Delete: true}); r.Removed != 6 || r.Extra != 0 {
		t.Errorf("%+v", r)
	}
	equal(t, s, "", dst)
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Error(err)
	}
}

func TestADirectoryInTheWayIsNotEmptiedUnasked(t *testing.T) {
	s := open(t, tt.NewMemory(), tt.Dir(map[string]tt.Node{"f": tt.File("new")}))
	dst := tempDir(t)
	mine := filepath.Join(dst, "f/mine")
	if err := errors.Join(os.Mkdir(filepath.Dir(mine), 0o755), os.WriteFile(mine, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := restorer.Restore(ctx, s, "", dst, options{}); !errors.Is(err, unix.ENOTEMPTY) || !strings.Contains(err.Error(), `"f"`) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
	restore(t, s, "", dst, options{Delete: true})
	equal(t, s, "", dst)
}

func TestAPartOfASnapshotIsRestoredByItself(t *testing.T) {
	s := open(t, tt.NewMemory(), tt.Dir(map[string]tt.Node{
		"0": tt.File("linked"),
		"p": tt.Dir(map[string]tt.Node{"x": tt.File("linked"), "y": tt.File("linked"), "only": tt.File("two")}),
		"q": tt.File("two"),
	}), meta.Hardlink{Path: "p/x", Leader: "0"}, meta.Hardlink{Path: "p/y", Leader: "0"}, meta.Hardlink{Path: "q", Leader: "p/only"})
	dst := tempDir(t)
	restore(t, s, "/p/", dst, options{})
	equal(t, s, "p", dst)

	dst = filepath.Join(tempDir(t), "new")
	restore(t, s, "p/x", dst, options{})
	if data, err := os.ReadFile(filepath.Join(dst, "x")); err != nil || string(data) != "linked" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := restorer.Restore(ctx, s, "p/nope", dst, options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := restorer.Restore(ctx, s, "p/x", dst, options{Delete: true}); err == nil {
		t.Error("a file was restored with Delete")
	}
}

func TestTheTargetIsMadeButNotItsParents(t *testing.T) {
	s := open(t, tt.NewMemory(), tt.Dir(nil))
	if _, err := restorer.Restore(ctx, s, "", filepath.Join(tempDir(t), "a/b"), options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	file := filepath.Join(tempDir(t), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := restorer.Restore(ctx, s, "", file, options{}); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
}

func TestTwoRestoresIntoOneTargetAreRefused(t *testing.T) {
	s := open(t, tt.NewMemory(), tt.Dir(map[string]tt.Node{"f": tt.File("x")}))
	dst := tempDir(t)
	restore(t, s, "", dst, options{Step: func(string) error {
		if _, err := restorer.Restore(ctx, s, "", dst, options{}); !errors.Is(err, restorer.ErrBusy) {
			t.Errorf("a second restore: %v", err)
		}
		return nil
	}})
}
