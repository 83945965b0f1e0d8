package holes_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/holes"
)

func TestHolesAreFoundWhateverTheNumberOfBlocks(t *testing.T) {
	data := make([]byte, 64<<10)
	for name, c := range map[string]struct {
		make func(f *os.File) error
		want bool
	}{
		"empty":       {func(*os.File) error { return nil }, false},
		"data":        {func(f *os.File) error { _, err := f.Write(data); return err }, false},
		"small":       {func(f *os.File) error { _, err := f.Write(data[:10]); return err }, false},
		"only a hole": {func(f *os.File) error { return f.Truncate(1 << 20) }, true},
		"a hole, and more blocks than bytes": {func(f *os.File) error {
			if _, err := f.WriteAt(data, 1<<20); err != nil {
				return err
			}
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 1<<20+int64(len(data)), 4<<20)
		}, true},
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := c.make(f); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		if got, err := holes.In(int(f.Fd()), &st); err != nil || got != c.want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
}
