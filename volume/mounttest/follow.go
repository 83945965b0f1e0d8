package mounttest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/volume"
)

// following mounts the base to be followed by others; false if that cannot be.
func (x *mount) following() (f volume.Follower, ok bool) {
	x.Helper()
	if f, ok = x.m.(volume.Follower); !ok || x.o.Full {
		return nil, false
	}
	x.mount(volume.MountOptions{ReadOnly: true, Foreign: true, Follow: true})
	return f, true
}

// after is the i-th state after the base.
func (x *mount) after(i int) *tree.Snapshot {
	x.Helper()
	text := tt.File(fmt.Sprint("state ", i))
	return x.open(tt.Commit(x.T, x.b, x.owned(tt.Dir(nodes{"a": text, "dir": tt.Dir(nodes{"b": text}), fmt.Sprint("n", i): text}))))
}

func (x *mount) follow(f volume.Follower, s *tree.Snapshot) (inUse int) {
	x.Helper()
	shown, err := f.Follow(x.Context(), s, x.dir)
	x.must(err)
	if len(shown) == 0 || shown[0] != s.CID {
		x.Errorf("shown: %v, want %s first", shown, s.CID)
	}
	return len(shown)
}

func (x *mount) want(path, text string) {
	x.Helper()
	if got, err := os.ReadFile(x.at(path)); err != nil || string(got) != text {
		x.Errorf("%s: %q, %v; want %q", path, got, err, text)
	}
}

func testFollow(x *mount) {
	f, ok := x.following()
	if !ok {
		return
	}
	x.want("dir/deep/c", "c")
	open, err := os.Open(x.at("dir/b"))
	x.must(err)
	defer open.Close()
	for i := range 4 {
		s := x.after(i)
		x.follow(f, s)
		x.follow(f, s)
		x.same("what is visible", x.visible(), s.Commit)
		if got, err := io.ReadAll(io.NewSectionReader(open, 0, 100)); err != nil || string(got) != "b" {
			x.Errorf("what is open: %q, %v", got, err)
		}
	}
	// Whoever takes the mount over goes on with what is shown.
	x.mount(volume.MountOptions{ReadOnly: true, Foreign: true, Follow: true})
	x.want("dir/b", "state 3")
	x.must(open.Close())
	x.unmount()
	if _, err := f.Follow(x.Context(), x.base, x.dir); err == nil {
		x.Error("what is not mounted follows")
	}
}

func testFollowBound(x *mount) {
	f, ok := x.following()
	if !ok {
		return
	}
	bound := x.TempDir()
	x.must(unix.Mount(x.m.Path(x.dir), bound, "", unix.MS_BIND, ""))
	defer unix.Unmount(bound, unix.MNT_DETACH)
	open, err := os.Open(bound + "/dir/b")
	x.must(err)
	defer open.Close()
	for i := range 20 {
		x.follow(f, x.after(i))
		for _, dir := range []string{bound, x.at("")} {
			if got, err := os.ReadFile(dir + "/dir/b"); err != nil || string(got) != fmt.Sprint("state ", i) {
				x.Errorf("state %d: %q, %v", i, got, err)
			}
		}
	}
	if err := os.WriteFile(x.at("a"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		x.Errorf("written: %v", err)
	}
	settled := func(last, n int) bool {
		for range 100 {
			if x.follow(f, x.after(last)) == n {
				return true
			}
			time.Sleep(20 * time.Millisecond)
		}
		return false
	}
	if !settled(19, 2) {
		x.Error("not those two are in use that are: the one that is shown, and the base")
	}
	x.must(open.Close())
	if !settled(20, 1) {
		x.Error("what is not open any more is in use")
	}
	x.must(unix.Unmount(bound, 0))
	if shown := slices.Sorted(slices.Values(names(x))); !slices.Equal(shown, []string{"a", "dir", "n20"}) {
		x.Errorf("shown: %q", shown)
	}
}

func names(x *mount) (all []string) {
	entries, err := os.ReadDir(x.at(""))
	x.must(err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
