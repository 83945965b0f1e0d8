package importer_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
)

// nest makes directories in one another.
func nest(t *testing.T, dir string, levels int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	for range levels {
		if err == nil {
			err = unix.Mkdirat(fd, "d", 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		above := fd
		fd, err = unix.Openat(above, "d", unix.O_DIRECTORY|unix.O_RDONLY, 0)
		unix.Close(above)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

func TestWhatIsTooDeepToBeRestoredIsRefused(t *testing.T) {
	ctx, b := t.Context(), blockstest.NewMemory()
	deep, deeper := t.TempDir(), t.TempDir()
	nest(t, deep, tree.DefaultMaxDepth-1)
	nest(t, deeper, tree.DefaultMaxDepth)
	res, err := importer.Import(ctx, b, deep, importer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tree.Open(ctx, b, res.Commit.Tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSize(ctx, "", tree.Limits{}); err != nil {
		t.Errorf("what was imported cannot be walked: %v", err)
	}
	if _, err := importer.Import(ctx, b, deeper, importer.Options{}); err == nil || !strings.Contains(err.Error(), "deeper than") {
		t.Errorf("%v, want a directory that is too deep", err)
	}
	if _, err := importer.Import(ctx, b, deeper, importer.Options{Exclude: []string{"/d/d/d"}}); err != nil {
		t.Errorf("with the depth excluded: %v", err)
	}
}
