package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

// holding starts a process that holds a store, and returns how to end it.
func holding(t *testing.T, dir string) (end func()) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), "STORE_CHILD=hold", "STORE_DIR="+dir)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			child.Process.Kill()
			io.Copy(io.Discard, out)
			in.Close()
			child.Wait()
		}
	}
	t.Cleanup(end)
	return end
}

func TestAStoreIsSeizedOnlyWhereThatIsAllowed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept := blockstest.Random(1, 20, 1000)
	put(t, s, kept...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	holding(t, dir)
	not := errors.New("not")
	if err := store.Seize(dir, func(string) error { return not }); !errors.Is(err, not) {
		t.Fatalf("not allowed, and %v", err)
	}
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("open what could not be seized: %v", err)
	}
	if err := store.Seize(dir, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(dir, store.Options{}); err != nil {
		t.Fatalf("open what was seized: %v", err)
	}
	put(t, s, blockstest.Random(2, 20, 1000)...)
	for _, b := range kept {
		if got, err := s.Get(t.Context(), b.Cid()); err != nil || !bytes.Equal(got.RawData(), b.RawData()) {
			t.Fatalf("what was kept: %v", err)
		}
	}
	if _, err := store.Open(dir, store.Options{ReadOnly: true}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("what was seized is open to others: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNobodyOpensAStoreWhileItIsSeized(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	end := holding(t, dir)
	err = store.Seize(dir, func(string) error {
		end() // who was taken for one that cannot
		for _, o := range []store.Options{{}, {ReadOnly: true}} {
			if _, err := store.Open(dir, o); !errors.Is(err, store.ErrLocked) {
				t.Errorf("open: %v", err)
			}
		}
		if err := store.Seize(dir, func(string) error { return nil }); !errors.Is(err, store.ErrLocked) {
			t.Errorf("two seize it: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(dir, store.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
