//go:build long

package importer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/volary/volary/snapshot/blockstest"
)

// maxRSS is what an import may take in all, in KiB.
const maxRSS = 512 << 10

// TestLongMemoryIsBounded imports in a process of its own, whose resident memory the kernel tells at its end.
func TestLongMemoryIsBounded(t *testing.T) {
	const child = "VOLARY_TEST_LONG_DIR"
	if dir := os.Getenv(child); dir != "" {
		r, err := Import(t.Context(), null{blockstest.NewMemory()}, dir, Options{})
		must(t, err)
		fmt.Println(r.Commit.Stats)
		return
	}
	for name, build := range map[string]func(dir string){
		"a file of 10 GiB": func(dir string) {
			f, err := os.Create(filepath.Join(dir, "f"))
			must(t, err)
			data := noise(16 << 20)
			for range 640 {
				_, err = f.Write(data)
				must(t, err)
			}
			must(t, f.Close())
		},
		"a million files in a thousand directories": func(dir string) {
			for i := range 1_000_000 {
				write(t, filepath.Join(dir, fmt.Sprint(i%1000), fmt.Sprint(i)), "x")
			}
		},
		"a million files in one directory": func(dir string) {
			for i := range 1_000_000 {
				write(t, filepath.Join(dir, fmt.Sprint("file-", i)), "")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			build(dir)
			cmd := exec.Command("/proc/self/exe", "-test.run", "^TestLongMemoryIsBounded$", "-test.v")
			cmd.Env = append(os.Environ(), child+"="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
			t.Logf("%d MiB resident, %v\n%s", rss>>10, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), strings.TrimSpace(string(out)))
			if rss > maxRSS {
				t.Errorf("%d MiB resident, at most %d are allowed", rss>>10, maxRSS>>10)
			}
		})
	}
}
