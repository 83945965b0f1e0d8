package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func TestWhatIsClosedIsFoundAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{PackSize: 100 << 10})
	bs := append(blockstest.Random(1, 100, 3000), blockstest.Random(2, 3, 1<<20)...)
	put(t, s, bs...)
	mustClose(t, s)
	s = open(t, dir, store.Options{})
	wantAll(t, s, bs)
	wantCount(t, s, len(bs))
}

func TestOpenRefusesWhatItMustNotTouch(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, dir string) error
		o     store.Options
		want  error
		text  string
	}{
		{"a newer version", write("FORMAT", "volary store 2\n"), store.Options{}, store.ErrNewer, "version 2"},
		{"a format that is none", write("FORMAT", "something else"), store.Options{}, store.ErrCorrupt, "FORMAT"},
		{"a missing format", remove("FORMAT"), store.Options{}, store.ErrCorrupt, "FORMAT"},
		{"a missing index", remove("index"), store.Options{}, store.ErrCorrupt, "index"},
		{"an index without its manifest", spoilManifest, store.Options{}, store.ErrCorrupt, "index"},
		{"missing packs", remove("packs"), store.Options{}, store.ErrCorrupt, "packs"},
		{"nothing, when only reading", remove(""), store.Options{ReadOnly: true}, fs.ErrNotExist, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s := open(t, dir, store.Options{})
			put(t, s, blockstest.Random(1, 20, 1000)...)
			mustClose(t, s)
			if err := tc.spoil(t, dir); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			_, err := store.Open(dir, tc.o)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), dir) {
				t.Errorf("message %q does not name %q in %s", err, tc.text, dir)
			}
			if after := tree(t, dir); after != before {
				t.Errorf("files changed from\n%s to\n%s", before, after)
			}
		})
	}
}

func write(name, text string) func(*testing.T, string) error {
	return func(_ *testing.T, dir string) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
	}
}

func remove(name string) func(*testing.T, string) error {
	return func(_ *testing.T, dir string) error { return os.RemoveAll(filepath.Join(dir, name)) }
}

func spoilManifest(t *testing.T, dir string) error {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "index", "MANIFEST*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("manifests: %v, %v", files, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// tree lists the files of FORMAT and packs with their sizes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() && (filepath.Ext(path) == ".pack" || d.Name() == "FORMAT") {
			list = append(list, fmt.Sprintf("%s %d", path, fi.Size()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, "\n")
}

func TestASecondProcessIsToldWhoHoldsTheStore(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), "STORE_CHILD=hold", "STORE_DIR="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer in.Close()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(dir, store.Options{})
	if !errors.Is(err, store.ErrLocked) {
		t.Fatalf("got %v", err)
	}
	if want := fmt.Sprintf("process %d\nstart `volary daemon`", child.Process.Pid); !strings.Contains(err.Error(), want) {
		t.Errorf("message %q lacks %q", err, want)
	}
	if _, err := store.Open(dir, store.Options{ReadOnly: true}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("reading beside a writer: %v", err)
	}
}

func TestReadersShareAStoreAndChangeNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	bs := blockstest.Random(1, 20, 1000)
	put(t, s, bs...)
	mustClose(t, s)
	before := tree(t, dir)
	a, b := open(t, dir, store.Options{ReadOnly: true}), open(t, dir, store.Options{ReadOnly: true})
	wantAll(t, a, bs)
	wantAll(t, b, bs)
	wantCount(t, b, len(bs))
	if err := a.Put(t.Context(), bs...); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("put: %v", err)
	}
	if err := a.SetRecords(t.Context(), map[string][]byte{"k": nil}); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("set records: %v", err)
	}
	if _, err := a.BeginSweep(t.Context()); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("sweep: %v", err)
	}
	if err := a.Sync(t.Context()); err != nil {
		t.Errorf("sync: %v", err)
	}
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("writing beside readers: %v", err)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("files changed from\n%s to\n%s", before, after)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	bs := blockstest.Random(1, 2, 100)
	put(t, s, bs[0])
	x, err := s.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	mustClose(t, s)
	if _, err := s.Get(t.Context(), bs[0].Cid()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("get: %v", err)
	}
	if err := s.Put(t.Context(), bs[1]); !errors.Is(err, store.ErrClosed) {
		t.Errorf("put: %v", err)
	}
	if err := s.Sync(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("sync: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Errorf("close session: %v", err)
	}
}

func TestAStoreIsMadeWithTheDirectoriesAboveIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "store")
	if _, err := store.Open(dir, store.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("reading what is not there: %v", err)
	}
	bs := blockstest.Random(1, 3, 100)
	s := open(t, dir, store.Options{})
	put(t, s, bs...)
	mustClose(t, s)
	wantAll(t, open(t, dir, store.Options{ReadOnly: true}), bs)
}

// Whatever the order a writer and Close come in, a Put that succeeded is kept and any other says why.
func TestPutsThatMeetCloseAreKeptOrRefused(t *testing.T) {
	for round := range 20 {
		dir := t.TempDir()
		s := open(t, dir, store.Options{PackSize: 4 << 10})
		var writers gosync.WaitGroup
		kept := make([][]blocks.Block, 4)
		started := make(chan struct{}, len(kept))
		for g := range kept {
			writers.Go(func() {
				started <- struct{}{}
				for i := 0; ; i++ {
					bs := blockstest.Random(uint64(round*1e6+g*1e4+i), 2, 900)
					if err := s.Put(context.Background(), bs...); err != nil {
						if !errors.Is(err, store.ErrClosed) {
							t.Error(err)
						}
						return
					}
					kept[g] = append(kept[g], bs...)
				}
			})
		}
		<-started
		mustClose(t, s)
		writers.Wait()
		s = open(t, dir, store.Options{})
		for _, bs := range kept {
			wantAll(t, s, bs)
		}
		wantCount(t, s, -1)
	}
}
