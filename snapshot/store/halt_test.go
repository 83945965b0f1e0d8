package store

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Pebble meets a failed log where a batch is committed, and a failed manifest in goroutines of its own.
func TestAnIndexThatStopsTellsItsWritersAndEndsNothing(t *testing.T) {
	for _, file := range []string{"MANIFEST-*", "*.log"} {
		t.Run(file, func(t *testing.T) {
			// A writer that is given up may make a file yet: where a directory is removed after the test it would be in the way.
			disk := vfs.NewMem()
			broken := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
				if ok, _ := filepath.Match(file, filepath.Base(op.Path)); ok && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
					return syscall.EIO
				}
				return nil
			})}
			x, err := openIndex("index", true, false, errorfs.Wrap(disk, broken), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			set := func(key string) error {
				b := x.db.NewBatch()
				b.Set(recordKey(key), make([]byte, 100<<10), nil)
				return x.commit(b, true)
			}
			if err := set("first"); err != nil {
				t.Fatal(err)
			}
			broken.On()
			for n := 0; err == nil; n++ {
				if n > 1000 {
					t.Fatal("the index goes on")
				}
				err = set("more")
			}
			if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "index stopped") {
				t.Errorf("the writer is told %v", err)
			}
			broken.Off()
			if err := set("later"); !errors.Is(err, syscall.EIO) {
				t.Errorf("after it has stopped: %v", err)
			}
			if v, err := x.value(recordKey("first")); err != nil || len(v) != 100<<10 {
				t.Errorf("read %d bytes, %v", len(v), err)
			}
			if err := x.close(); !errors.Is(err, syscall.EIO) {
				t.Errorf("close: %v", err)
			}
		})
	}
}
