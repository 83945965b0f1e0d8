//go:build real

package cached_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/view"
)

// dataset makes small and large files of about 40 MB.
func dataset(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	r := rand.NewChaCha8([32]byte{1})
	file := func(name string, size int) {
		data := make([]byte, size)
		r.Read(data)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2000 {
		file(fmt.Sprint("small", i), 5000)
	}
	for i := range 6 {
		file(fmt.Sprint("large", i), 5<<20+i)
	}
	return dir
}

func TestAMountOfTenTimesTheCacheHasEveryByte(t *testing.T) {
	const size = 4 << 20
	src, cache, at := dataset(t), t.TempDir(), t.TempDir()
	m := blockstest.NewMemory()
	res, err := importer.Import(t.Context(), m, src, importer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, m, cache, size)
	s, err := tree.OpenCommit(t.Context(), snapshot.Blocks(b), res.Commit)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := view.Mount(t.Context(), s, at, view.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := view.Unmount(at); err != nil {
			t.Error(err)
		}
		srv.Wait()
	}()
	done := make(chan error, 1)
	go func() {
		out, err := exec.CommandContext(t.Context(), "diff", "-r", src, at).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %.1000s", err, out)
		}
		done <- err
	}()
	looked := 0
	for {
		if n := used(t, cache); n > size {
			t.Errorf("the cache takes %d bytes of %d", n, size)
		}
		looked++
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if stats := b.Stats(); stats.Misses < 2000 || stats.Unwritten > 0 || looked < 10 {
				t.Fatalf("looked %d times, %+v", looked, stats)
			}
			return
		default:
		}
	}
}
