//go:build real

package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/meta"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/overlay"
)

func TestRealABaseThatDoesNotFitIsRefusedAndLeavesNothing(t *testing.T) {
	many := children{}
	for i := range 100 {
		many[fmt.Sprint(i)] = tt.File("")
	}
	large := tt.File(strings.Repeat("large", 1<<20))
	for name, c := range map[string]struct {
		base children
		says string
	}{
		"more bytes":       {children{"large": large}, "5.0 MiB, where "},
		"several files":    {children{"a": tt.File(strings.Repeat("a", 3<<20)), "b": tt.File(strings.Repeat("b", 3<<20))}, "6.0 MiB, where "},
		"more files":       {many, "copy: "},
		"the largest last": {children{"a": tt.File("a"), "b": large}, "5.0 MiB, where "},
	} {
		t.Run(name, func(t *testing.T) {
			disk := t.TempDir()
			must(t, unix.Mount("tmpfs", disk, "tmpfs", 0, "size=4M,nr_inodes=50"))
			t.Cleanup(func() { must(t, unix.Unmount(disk, 0)) })
			dir := filepath.Join(disk, "overlay")
			must(t, os.Mkdir(dir, 0o700))
			b := blockstest.NewMemory()
			m := overlay.New(holder.NewLower(holder.LowerOptions{}))
			err := m.Mount(t.Context(), open(t, b, tt.Commit(t, b, tt.Dir(c.base))), dir, volume.MountOptions{Full: true})
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "\nlower=full copies") {
				t.Errorf("mounted with %v", err)
			}
			var st unix.Statfs_t
			must(t, unix.Statfs(disk, &st))
			if used := 50 - st.Ffree; used > 6 || st.Blocks-st.Bfree > 10 {
				t.Errorf("%d files and %d blocks are left", used, st.Blocks-st.Bfree)
			}
		})
	}
}

func TestRealHolesAndMoreNamesOfABaseNeedNoRoom(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4M"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	holes := tt.File(string(make([]byte, 8<<20))).With(func(a *meta.Attr) { a.Sparse = true })
	data := tt.File(strings.Repeat("data", 3<<18))
	b := blockstest.NewMemory()
	c := tt.Commit(t, b, tt.Dir(children{"a": data, "b": data, "holes": holes}), meta.Hardlink{Path: "b", Leader: "a"})
	base := open(t, b, c)
	base.Commit.Stats.Bytes = 11 << 20
	m := overlay.New(holder.NewLower(holder.LowerOptions{}))
	must(t, m.Mount(t.Context(), base, dir, volume.MountOptions{Full: true}))
	defer func() { must(t, m.Unmount(context.Background(), dir)) }()
	for name, want := range map[string]int{"a": 3 << 20, "b": 3 << 20, "holes": 8 << 20} {
		if got, err := os.ReadFile(filepath.Join(m.Path(dir), name)); err != nil || len(got) != want {
			t.Errorf("%s has %d bytes, want %d: %v", name, len(got), want, err)
		}
	}
}
