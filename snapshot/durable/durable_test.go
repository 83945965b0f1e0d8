package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/volary/volary/snapshot/durable"
)

func TestAFileIsReplacedWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"first", "second"} {
		if err := durable.WriteFile(name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != text {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o640 {
		t.Fatalf("%v, %v", info, err)
	}
	onlyFile(t, filepath.Dir(name))
}

func TestNothingIsLeftOfAFileThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "taken"), nil, 0o600); err == nil {
		t.Fatal("a directory was replaced")
	}
	onlyFile(t, dir)
}

func TestOfSeveralWhoMakeAFileOneDoes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	made := make(chan string, 8)
	var work sync.WaitGroup
	for i := range cap(made) {
		work.Go(func() {
			err := durable.CreateFile(name, []byte(fmt.Sprint(i)), 0o600)
			if err == nil {
				made <- fmt.Sprint(i)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	work.Wait()
	close(made)
	got, err := os.ReadFile(name)
	if want := <-made; err != nil || string(got) != want || len(made) != 0 {
		t.Fatalf("%q, %v, made by %q and %d others", got, err, want, len(made))
	}
	onlyFile(t, filepath.Dir(name))
}

func TestDirectoriesAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	onlyFile(t, filepath.Dir(dir))
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(filepath.Join(dir, "file", "below"), 0o700); err == nil {
		t.Fatal("a directory was made below a file")
	}
}

func onlyFile(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
}
