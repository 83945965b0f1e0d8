package importer

import (
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// opens notes the files that were opened.
type opens struct {
	mu    sync.Mutex
	names []string
}

func (o *opens) add(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.names = append(o.names, name)
}

func (o *opens) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.names)
}

// diskDir returns a directory on a file system whose stamps the importer trusts.
func diskDir(t testing.TB) string {
	t.Helper()
	for _, parent := range []string{os.TempDir(), "."} {
		var fs unix.Statfs_t
		must(t, unix.Statfs(parent, &fs))
		if !stampsContent(int64(fs.Type)) {
			continue
		}
		dir, err := os.MkdirTemp(parent, "volary-test-")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	t.Fatal("neither the temporary directory nor this one is on ext4, xfs, btrfs or f2fs: set TMPDIR")
	return ""
}

// testSlack covers the kernel's coarse clock; no write of a test takes longer than it seems.
const testSlack = 20 * time.Millisecond

// age returns when whatever was changed last is old enough for the cache.
func age() {
	for end := time.Now().Add(2 * testSlack); time.Now().Before(end); {
		runtime.Gosched()
	}
}
