//go:build real

package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/mounttest"
	"github.com/volary/volary/volume/overlay"
)

func TestRealOverlay(t *testing.T) {
	for name, full := range map[string]bool{"lazy": false, "full": true} {
		t.Run(name, func(t *testing.T) {
			mounttest.RunKernel(t, full, func(*testing.T) volume.Mounter { return overlay.New(holder.NewLower(holder.LowerOptions{})) })
		})
	}
}

func TestRealADeadMountStaysWhileItCanBeWrittenTo(t *testing.T) {
	b := blockstest.NewMemory()
	base := open(t, b, tt.Commit(t, b, tt.Dir(children{"a": tt.File("data")})))
	dir := t.TempDir()
	m := overlay.New(holder.NewLower(holder.LowerOptions{}))
	must(t, m.Mount(t.Context(), base, dir, volume.MountOptions{}))
	a := filepath.Join(m.Path(dir), "a")
	f, err := os.OpenFile(a, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	defer f.Close()
	must(t, unix.Unmount(filepath.Join(dir, "closed/base"), unix.MNT_FORCE))

	m = overlay.New(holder.NewLower(holder.LowerOptions{}))
	err = m.Mount(t.Context(), base, dir, volume.MountOptions{})
	if self := fmt.Sprintf("(%d)", os.Getpid()); !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), self) {
		t.Errorf("mounted over an open file: %v, which does not name process %s", err, self)
	}
	_, err = f.WriteString(", late")
	must(t, err)
	must(t, f.Close())
	must(t, m.Mount(t.Context(), base, dir, volume.MountOptions{}))
	t.Cleanup(func() { must(t, m.Unmount(context.Background(), dir)) })
	if got, err := os.ReadFile(a); err != nil || string(got) != "data, late" {
		t.Errorf("%q, %v", got, err)
	}
}

// Programs like df look at all mounts, and have each for as long as that takes.
func TestRealWhoLooksAtAMountInPassingDoesNotKeepIt(t *testing.T) {
	b := blockstest.NewMemory()
	base := open(t, b, tt.Commit(t, b, tt.Dir(children{"a": tt.File("data")})))
	for _, o := range []volume.MountOptions{{Tmpfs: true}, {ReadOnly: true}} {
		for _, of := range []string{"merged", "closed/base", "layers"} {
			if of == "layers" && !o.Tmpfs {
				continue
			}
			dir := t.TempDir()
			m := overlay.New(holder.NewLower(holder.LowerOptions{}))
			must(t, m.Mount(t.Context(), base, dir, o))
			fd, err := unix.Open(filepath.Join(dir, of), unix.O_PATH|unix.O_CLOEXEC, 0)
			must(t, err)
			time.AfterFunc(100*time.Millisecond, func() { unix.Close(fd) })
			if err := m.Unmount(t.Context(), dir); err != nil {
				t.Errorf("%+v: while somebody looks at %s: %v", o, of, err)
			}
		}
	}
}

func TestRealACopyIsMountedReadOnlyByWhoeverGoesOnWithIt(t *testing.T) {
	b := blockstest.NewMemory()
	base := open(t, b, tt.Commit(t, b, tt.Dir(children{"a": tt.File("data")})))
	dir := t.TempDir()
	m := overlay.New(holder.NewLower(holder.LowerOptions{}))
	o := volume.MountOptions{Full: true, ReadOnly: true, Foreign: true}
	must(t, m.Mount(t.Context(), base, dir, o))
	t.Cleanup(func() { must(t, m.Unmount(context.Background(), dir)) })
	// As far as who was killed came.
	must(t, unix.Mount("", m.Path(dir), "", unix.MS_BIND|unix.MS_REMOUNT, ""))
	must(t, m.Mount(t.Context(), base, dir, o))
	var st unix.Statfs_t
	must(t, unix.Statfs(m.Path(dir), &st))
	if err := os.WriteFile(filepath.Join(m.Path(dir), "a"), nil, 0); !errors.Is(err, unix.EROFS) || st.Flags&unix.ST_NOSUID == 0 {
		t.Errorf("written: %v, with flags %#x", err, st.Flags)
	}
}

func TestRealOthersReachACopiedBaseByItsMountAlone(t *testing.T) {
	b := blockstest.NewMemory()
	suid := tt.File("#!/bin/sh").With(func(a *meta.Attr) { a.Mode = 0o4755 })
	base := open(t, b, tt.Commit(t, b, tt.Dir(children{"suid": suid})))
	dir := t.TempDir()
	m := overlay.New(holder.NewLower(holder.LowerOptions{}))
	must(t, m.Mount(t.Context(), base, dir, volume.MountOptions{Full: true, Foreign: true}))
	t.Cleanup(func() { must(t, m.Unmount(context.Background(), dir)) })
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		if path := filepath.Join(dir, e.Name()); path != m.Path(dir) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v", path, info.Mode())
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkRealUnmount(b *testing.B) {
	blocks := blockstest.NewMemory()
	s, err := tree.Open(b.Context(), blocks, tt.Commit(b, blocks, tt.Dir(children{"a": tt.File("data")})))
	must(b, err)
	m := overlay.New(holder.NewLower(holder.LowerOptions{}))
	dir := b.TempDir()
	for b.Loop() {
		b.StopTimer()
		must(b, m.Mount(b.Context(), s, dir, volume.MountOptions{}))
		b.StartTimer()
		must(b, m.Unmount(b.Context(), dir))
	}
}
