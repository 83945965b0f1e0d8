//go:build real && long

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLongKilledAtAnyMomentNothingPrintedIsLost(t *testing.T) { killRounds(t, 500) }

// maxResident is what a snapshot or restore may use at most, in KiB.
const maxResident = 512 << 10

// measured runs the program, logs its time and memory, and fails above maxResident.
func measured(t *testing.T, home string, args ...string) string {
	t.Helper()
	cmd := exec.Command("../../bin/volary", args...)
	cmd.Env = append(os.Environ(), "VOLARY_HOME="+home)
	cmd.Stderr = os.Stderr
	start := time.Now()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("volary %s: %v", strings.Join(args, " "), err)
	}
	resident := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	t.Logf("%s: %.1f s, %d MiB resident", args[0], time.Since(start).Seconds(), resident>>10)
	if resident > maxResident {
		t.Errorf("%s used %d MiB, more than %d", args[0], resident>>10, maxResident>>10)
	}
	return strings.TrimSpace(string(out))
}

func roundTrip(t *testing.T, dir, src string) {
	home, dst := filepath.Join(dir, "state"), filepath.Join(dir, "copy")
	cid := measured(t, home, "snapshot", src)
	measured(t, home, "snapshot", src)
	measured(t, home, "restore", cid, dst)
	measured(t, home, "diff", cid, dst)
	measured(t, home, "verify", cid)
	measured(t, home, "gc")
}

// fresh returns a folder on an ext4 filesystem of its own: how long a million files take there does not depend on
// what was deleted before, and they go away with its image.
func fresh(t *testing.T, gigabytes int) string {
	t.Helper()
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "truncate", "-s", fmt.Sprint(gigabytes, "G"), image)
	mustRun(t, "mkfs.ext4", "-q", "-F", "-m", "0", "-i", "4096", image)
	mustRun(t, "mount", "-o", "loop", image, mount)
	t.Cleanup(func() { mustRun(t, "umount", mount) })
	return mount
}

func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// million makes a million files, each with content of its own, equally many in each of some directories.
func million(t *testing.T, src string, directories int) {
	t.Helper()
	for d := range directories {
		sub := filepath.Join(src, fmt.Sprintf("%04d", d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range 1_000_000 / directories {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file-%07d", f)), fmt.Appendf(nil, "%d/%d", d, f), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLongAMillionFilesFitInMemory(t *testing.T) {
	for _, directories := range []int{1000, 1} {
		t.Run(fmt.Sprintf("in %d directories", directories), func(t *testing.T) {
			dir := fresh(t, 20)
			src := filepath.Join(dir, "src")
			million(t, src, directories)
			roundTrip(t, dir, src)
		})
	}
}

func TestLongATenGigabyteFileFitsInMemory(t *testing.T) {
	dir := fresh(t, 36)
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "dd", "if=/dev/urandom", "of="+filepath.Join(src, "big"), "bs=1M", "count=10240", "status=none")
	roundTrip(t, dir, src)
}
