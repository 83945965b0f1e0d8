//go:build real

package overlay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/blockstest"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/unixfs"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/overlay"
)

const mib = 1 << 20

// quotaDisk makes a disk with project quotas. On a kernel that has none it is an ordinary one.
func quotaDisk(t *testing.T) (dir string, quotas bool) {
	t.Helper()
	top := t.TempDir()
	image, dir := filepath.Join(top, "image"), filepath.Join(top, "disk")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 64*mib))
	must(t, os.Mkdir(dir, 0o700))
	command(t, "mkfs.ext4", "-q", "-m", "0", "-O", "quota,project", "-E", "quotatype=prjquota", image)
	if out, err := exec.Command("mount", "-o", "loop,prjquota", image, dir).CombinedOutput(); err == nil {
		quotas = true
	} else {
		t.Logf("no project quotas in this kernel, the limit is not enforced: %s", bytes.TrimSpace(out))
		command(t, "mkfs.ext4", "-q", "-F", "-m", "0", image)
		command(t, "mount", "-o", "loop", image, dir)
	}
	t.Cleanup(func() { command(t, "umount", dir) })
	return dir, quotas
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// fill writes to a file until that is refused or it has size bytes, and returns how many these are.
func fill(t *testing.T, path string, size int) int {
	t.Helper()
	n := 0
	f, err := os.Create(path)
	if errors.Is(err, syscall.ENOSPC) {
		return n
	}
	must(t, err)
	defer f.Close()
	for chunk := bytes.Repeat([]byte("volary!\n"), mib/32); n < size; {
		k, err := f.Write(chunk)
		n += k
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			break
		}
		must(t, err)
	}
	must(t, f.Sync())
	return n
}

func capacity(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	return st.Blocks * uint64(st.Bsize)
}

func TestRealASizeIsALimitWhereItCanBe(t *testing.T) {
	disk, quotas := quotaDisk(t)
	b := blockstest.NewMemory()
	base := open(t, b, tt.Commit(t, b, tt.Dir(children{"a": tt.File("data")})))
	m := overlay.New(holder.NewLower(holder.LowerOptions{}))
	for _, c := range []struct {
		name     string
		tmpfs    bool
		enforced bool
	}{{"on the disk", false, quotas}, {"in memory", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(disk, c.name)
			must(t, os.Mkdir(dir, 0o700))
			if will, err := m.Enforces(dir); err != nil || will != quotas {
				t.Errorf("of a directory without changes: %v, %v", will, err)
			}
			o := volume.MountOptions{Tmpfs: c.tmpfs, Size: 4 * mib}
			must(t, m.Mount(t.Context(), base, dir, o))
			defer func() {
				must(t, m.Unmount(context.Background(), dir))
				must(t, m.Release(dir))
				if s, err := m.Space(context.Background(), dir); err != nil || s.Enforced {
					t.Errorf("released: %+v, %v", s, err)
				}
			}()
			limited := func(size uint64) {
				t.Helper()
				if got := capacity(t, m.Path(dir)); c.enforced && got != size {
					t.Errorf("the mount says that it has %d bytes, not %d", got, size)
				}
				n := fill(t, filepath.Join(m.Path(dir), "new"), int(3*size))
				if c.enforced && (uint64(n) > size || uint64(n) < size/2) || !c.enforced && uint64(n) != 3*size {
					t.Errorf("%d bytes were written, the limit is %d, enforced %v", n, size, c.enforced)
				}
				s, err := m.Space(t.Context(), dir)
				if enforces, err := m.Enforces(dir); err != nil || enforces != s.Enforced {
					t.Errorf("enforced without counting: %v, %v", enforces, err)
				}
				if err != nil || s.Enforced != c.enforced || s.Used < uint64(n) || s.Used > uint64(n)+mib {
					t.Errorf("%d bytes were written, space says %+v, %v", n, s, err)
				}
				if got, err := os.ReadFile(filepath.Join(m.Path(dir), "new")); err != nil || len(got) != n {
					t.Errorf("%d bytes were written, %d are there, %v", n, len(got), err)
				}
			}
			limited(4 * mib)
			o.Size = 8 * mib
			must(t, m.Mount(t.Context(), base, dir, o))
			limited(8 * mib)
			o.Size = mib
			must(t, m.Mount(t.Context(), base, dir, o))
			if n := fill(t, filepath.Join(m.Path(dir), "more"), mib); c.enforced && n > 0 {
				t.Errorf("%d bytes were written beyond a limit that was lowered", n)
			}
			if got, err := os.ReadFile(filepath.Join(m.Path(dir), "a")); err != nil || string(got) != "data" {
				t.Errorf("the base: %q, %v", got, err)
			}
		})
	}
}

// hanging has blocks that nobody answers for.
type hanging struct {
	*blockstest.Memory
	lost cid.Cid
}

func (h hanging) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if c == h.lost {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.Memory.Get(ctx, c)
}

// written is a log that is read while it is written.
type written struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (w *written) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.Write(b)
}

func (w *written) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.all.String(), text)
}

func TestRealABlockThatNobodyHasIsAnErrorInTime(t *testing.T) {
	lost := strings.Repeat("lost", 300_000)
	memory := blockstest.NewMemory()
	c := tt.Commit(t, memory, tt.Dir(children{"lost": tt.File(lost), "there": tt.File("there")}))
	b := hanging{memory, unixfs.Leaf([]byte(lost[:mib])).Cid()}
	for name, o := range map[string]struct {
		lower holder.LowerOptions
		mount volume.MountOptions
	}{
		"of the daemon": {holder.LowerOptions{IOTimeout: time.Second}, volume.MountOptions{}},
		"of the volume": {holder.LowerOptions{IOTimeout: time.Hour}, volume.MountOptions{IOTimeout: time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(written)
			o.lower.Logger = slog.New(slog.NewTextHandler(log, nil))
			m := overlay.New(holder.NewLower(o.lower))
			dir := t.TempDir()
			must(t, m.Mount(t.Context(), open(t, b, c), dir, o.mount))
			t.Cleanup(func() { must(t, m.Unmount(context.Background(), dir)) })
			f, err := os.Open(filepath.Join(m.Path(dir), "lost"))
			must(t, err)
			defer f.Close()
			begin := time.Now()
			if _, err := f.Read(make([]byte, 100)); !errors.Is(err, syscall.EIO) || time.Since(begin) > time.Minute {
				t.Errorf("read after %s: %v", time.Since(begin), err)
			}
			if !log.has(b.lost.String()) || !log.has("path=lost") {
				t.Errorf("the log does not name the block:\n%s", log.all.String())
			}
			rest := make([]byte, 100)
			if _, err := f.ReadAt(rest, mib+4096); err != nil && err != io.EOF || !strings.HasPrefix(string(rest), "lost") {
				t.Errorf("the rest of the file: %q, %v", rest, err)
			}
			if got, err := os.ReadFile(filepath.Join(m.Path(dir), "there")); err != nil || string(got) != "there" {
				t.Errorf("another file: %q, %v", got, err)
			}
			must(t, os.WriteFile(filepath.Join(m.Path(dir), "new"), []byte("new"), 0o600))
		})
	}
}
