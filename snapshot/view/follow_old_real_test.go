//go:build real

package view

import (
	"fmt"
	"os"
	"testing"

	tt "github.com/volary/volary/snapshot/tree/treetest"

	"github.com/volary/volary/snapshot/tree"
)

// TestRealWithoutEpochsAMountFollowsAllTheSame is for kernels before Linux 6.16.
func TestRealWithoutEpochsAMountFollowsAllTheSame(t *testing.T) {
	b := tt.NewMemory()
	state := func(i int) *tree.Snapshot {
		text := tt.File(fmt.Sprint(i))
		s, err := tree.Open(t.Context(), b, tt.Commit(t, b, tt.Dir(map[string]tt.Node{"a": text, fmt.Sprint("n", i): text, "d": tt.Dir(map[string]tt.Node{"b": text})})))
		must(t, err)
		return s
	}
	dir := t.TempDir()
	srv, err := mount(t.Context(), state(0), dir, Options{Follow: true})
	must(t, err)
	t.Cleanup(func() {
		must(t, Unmount(dir))
		srv.Wait()
	})
	f := srv.shown.(*follower)
	f.fresh, f.current.view.fleeting = false, true
	srv.serve()
	declinePolls(dir)
	for i := range 20 {
		if i > 0 {
			must(t, srv.Follow(t.Context(), state(i), nil))
		}
		for _, path := range []string{"/a", "/d/b", fmt.Sprint("/n", i), "/a"} {
			if got, err := os.ReadFile(dir + path); err != nil || string(got) != fmt.Sprint(i) {
				t.Errorf("%s in state %d: %q, %v", path, i, got, err)
			}
		}
		for _, n := range []int{i - 1, i + 1} {
			if _, err := os.Lstat(fmt.Sprintf("%s/n%d", dir, n)); !os.IsNotExist(err) {
				t.Errorf("n%d in state %d: %v", n, i, err)
			}
		}
	}
}
