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
