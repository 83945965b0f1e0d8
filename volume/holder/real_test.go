//go:build real

package holder_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/overlay"
)

var ctx = context.Background()

var _ overlay.Lower = (*holder.Lower)(nil)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRealAnOverlayIsWritableOnAView(t *testing.T) {
	b := tt.NewMemory()
	c := tt.Commit(t, b, tt.Dir(map[string]tt.Node{"a": tt.File("one"), "d": tt.Dir(map[string]tt.Node{"f": tt.File("two")})}))
	s, err := tree.Open(ctx, b, c)
	must(t, err)
	m := overlay.New(holder.NewLower(holder.LowerOptions{}))
	dir := t.TempDir()
	must(t, m.Mount(ctx, s, dir, volume.MountOptions{}))
	t.Cleanup(func() { must(t, m.Unmount(ctx, dir)) })
	must(t, m.Mount(ctx, s, dir, volume.MountOptions{}))
	at := m.Path(dir)
	f, err := os.OpenFile(filepath.Join(at, "a"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(" more")
	must(t, err)
	must(t, f.Close())
	must(t, os.Rename(filepath.Join(at, "d"), filepath.Join(at, "e")))
	for name, want := range map[string]string{"a": "one more", "e/f": "two"} {
		got, err := os.ReadFile(filepath.Join(at, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}
