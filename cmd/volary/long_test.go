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

func TestLongAMillionFilesFitInMemory(t *testing.T) {
	dir := t.TempDir()
	for d := range 1000 {
		sub := filepath.Join(dir, "src", fmt.Sprintf("%04d", d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range 1000 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("%04d", f)), fmt.Appendf(nil, "%d/%d", d, f), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	roundTrip(t, dir, filepath.Join(dir, "src"))
}

func TestLongAMillionFilesInOneDirectoryFitInMemory(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	for f := range 1_000_000 {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprintf("file-%07d", f)), fmt.Appendf(nil, "%d", f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	roundTrip(t, dir, src)
}

func TestLongATenGigabyteFileFitsInMemory(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("dd", "if=/dev/urandom", "of="+filepath.Join(src, "big"), "bs=1M", "count=10240", "status=none").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	roundTrip(t, dir, src)
}
