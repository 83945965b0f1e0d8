//go:build real

package holder

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/view"
	"github.com/volary/volary/volume"
)

func base(t *testing.T) *tree.Snapshot {
	t.Helper()
	b := tt.NewMemory()
	s, err := tree.Open(t.Context(), b, tt.Commit(t, b, tt.Dir(map[string]tt.Node{"a": tt.File("one")})))
	must(t, err)
	return s
}

func TestRealALowerThatIsVisibleElsewhereIsInUse(t *testing.T) {
	l, s := NewLower(LowerOptions{}), base(t)
	dir, other := t.TempDir(), t.TempDir()
	must(t, l.Mount(t.Context(), s, dir, volume.MountOptions{}))
	must(t, unix.Mount(dir, other, "", unix.MS_BIND, ""))
	for range 2 {
		if err := l.Unmount(t.Context(), dir); !errors.Is(err, volume.ErrInUse) {
			t.Errorf("unmounted: %v", err)
		}
		if got, err := os.ReadFile(other + "/a"); err != nil || string(got) != "one" {
			t.Errorf("at the other place: %q, %v", got, err)
		}
	}
	must(t, unix.Unmount(other, 0))
	must(t, l.Unmount(t.Context(), dir))
	must(t, l.Mount(t.Context(), s, dir, volume.MountOptions{}))
	must(t, l.Unmount(t.Context(), dir))
}

// stalling is a holder that answers what is put under one name only when it may.
func stalling(t *testing.T, name string, may <-chan struct{}) (c *Client, asked <-chan struct{}) {
	t.Helper()
	c = &Client{Socket: filepath.Join(t.TempDir(), "holder.sock")}
	l, err := listen(c.Socket)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	stalled := make(chan struct{})
	answer := func(conn *net.UnixConn) {
		defer conn.Close()
		var q request
		files, err := receive(conn, &q)
		if err != nil {
			return
		}
		defer held{files: files}.close()
		if q.Op == opPut && q.Name == name {
			close(stalled)
			<-may
		}
		send(conn, reply{})
	}
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	return c, stalled
}

func TestRealOneDirectoryDoesNotWaitForAnother(t *testing.T) {
	slow, quick := t.TempDir(), t.TempDir()
	may := make(chan struct{})
	c, asked := stalling(t, slow, may)
	l, s := NewLower(LowerOptions{Holder: c}), base(t)
	mounted := make(chan error)
	go func() { mounted <- l.Mount(t.Context(), s, slow, volume.MountOptions{}) }()
	<-asked
	release := time.AfterFunc(timeout/2, func() { close(may) })
	must(t, l.Mount(t.Context(), s, quick, volume.MountOptions{}))
	must(t, l.Unmount(t.Context(), quick))
	if !release.Stop() {
		t.Error("waited for the other directory")
	} else {
		close(may)
	}
	must(t, <-mounted)
	must(t, l.Unmount(t.Context(), slow))
}

// The kernel reads ahead, for nobody any more once the file is closed.
func TestRealWhatIsReadAheadDoesNotKeepAMount(t *testing.T) {
	b := tt.NewMemory()
	c := tt.Commit(t, b, tt.Dir(map[string]tt.Node{"f": tt.File("content")}))
	s, err := tree.Open(t.Context(), b, c)
	must(t, err)
	leaf, err := s.Lookup(t.Context(), "f")
	must(t, err)
	slow := tt.NewStalled(b, leaf.CID)
	for name, o := range map[string]volume.MountOptions{"": {}, "followed": {ReadOnly: true, Foreign: true, Follow: true}} {
		t.Run(name, func(t *testing.T) {
			s, err := tree.Open(t.Context(), slow, c)
			must(t, err)
			l, dir := NewLower(LowerOptions{IOTimeout: time.Hour}), t.TempDir()
			must(t, l.Mount(t.Context(), s, dir, o))
			fd, err := unix.Open(filepath.Join(dir, "f"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			must(t, err)
			must(t, unix.Fadvise(fd, 0, 0, unix.FADV_WILLNEED))
			<-slow.Asked
			must(t, unix.Close(fd))
			must(t, l.Unmount(t.Context(), dir))
		})
	}
}

// Closing the device is the last that is done for a process that was killed.
func TestRealADeadMountIsTakenAwayWhileItsServerIsEnding(t *testing.T) {
	dir := t.TempDir()
	c, err := view.Attach(t.Context(), base(t), dir, view.Options{})
	must(t, err)
	taken := make(chan error, 1)
	go func() { taken <- detachDead(dir) }()
	asked := []unix.PollFd{{Fd: int32(c.Device.Fd()), Events: unix.POLLIN}}
	for n := 0; n == 0; {
		n, err = unix.Poll(asked, int(timeout/time.Millisecond))
		if err != unix.EINTR {
			must(t, err)
		}
	}
	must(t, c.Close())
	must(t, <-taken)
}
