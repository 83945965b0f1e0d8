//go:build real

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledAtAnyMomentNothingPrintedIsLost kills the program with SIGKILL in the middle of snapshots,
// collections and restores. Whatever CID was printed verifies, the state opens, and the next run succeeds.
func TestKilledAtAnyMomentNothingPrintedIsLost(t *testing.T) { killRounds(t, 40) }

type killer struct {
	t       *testing.T
	rng     *rand.Rand
	dir     string
	printed []string                 // CIDs that were printed and not removed since
	took    map[string]time.Duration // by the last run of each verb that came to its end
	killed  int
}

func killRounds(t *testing.T, rounds int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := &killer{t: t, rng: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(), took: map[string]time.Duration{}}
	k.change(400)
	k.snapshot(false)
	k.gc(false)
	k.restore(false)
	for round := range rounds {
		switch round % 4 {
		case 0, 1:
			k.change(60)
			k.snapshot(true)
		case 2:
			k.gc(true)
		case 3:
			k.restore(true)
		}
		k.checkAll()
	}
	k.snapshot(false)
	k.gc(false)
	k.checkAll()
	k.restore(false)
	if k.killed < rounds/4 {
		t.Errorf("only %d of %d rounds were killed before their end; the test kills too late", k.killed, rounds)
	}
	t.Logf("%d rounds, %d killed before their end, %d snapshots", rounds, k.killed, len(k.printed))
}

func (k *killer) path(name string) string { return filepath.Join(k.dir, name) }

// change writes n files of random sizes and contents.
func (k *killer) change(n int) {
	k.t.Helper()
	for range n {
		size := k.rng.IntN(8 << 10)
		if k.rng.IntN(40) == 0 {
			size = k.rng.IntN(3 << 20)
		}
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(k.rng.Uint32())
		}
		file := k.path(fmt.Sprintf("src/%d/%d", k.rng.IntN(20), k.rng.IntN(100)))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			k.t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			k.t.Fatal(err)
		}
	}
}

// volary runs the program. With kill it is killed at a random moment, most often before the time that it took when it
// was not, which is not the longest: one run that the machine held up would have all that follow end by themselves.
// killed tells whether it had not ended by then.
func (k *killer) volary(kill bool, args ...string) (stdout string, killed bool) {
	k.t.Helper()
	cmd := exec.Command("../../bin/volary", args...)
	cmd.Env = append(os.Environ(), "VOLARY_HOME="+k.path("state"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	var timer *time.Timer
	if kill {
		took := max(k.took[args[0]], 20*time.Millisecond)
		timer = time.AfterFunc(time.Duration(k.rng.Int64N(int64(took)*3/2)), func() { cmd.Process.Kill() })
	}
	err := cmd.Wait()
	if timer != nil {
		timer.Stop()
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && kill {
		k.killed++
		return out.String(), true
	}
	if err != nil {
		k.t.Fatalf("volary %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	k.took[args[0]] = time.Since(start)
	return out.String(), false
}

func (k *killer) snapshot(kill bool) {
	out, _ := k.volary(kill, "snapshot", k.path("src"))
	// A CID that was printed counts, even if the process was killed right after.
	if cid := strings.TrimSpace(out); strings.HasSuffix(out, "\n") {
		k.printed = append(k.printed, cid)
	}
}

func (k *killer) gc(kill bool) {
	for len(k.printed) > 5 {
		// Removed from the list first: once rm has begun, the snapshot is not promised any more.
		i := k.rng.IntN(len(k.printed) - 1)
		cid := k.printed[i]
		k.printed = append(k.printed[:i], k.printed[i+1:]...)
		k.volary(false, "rm", cid)
	}
	k.volary(kill, "gc")
}

// restore restores the last snapshot, over what a killed restore may have left, and compares.
func (k *killer) restore(kill bool) {
	last := k.printed[len(k.printed)-1]
	if _, killed := k.volary(kill, "restore", last, k.path("copy"), "--delete"); killed {
		k.volary(false, "restore", last, k.path("copy"), "--delete")
	}
	k.volary(false, "diff", last, k.path("copy"))
}

func (k *killer) checkAll() {
	for _, cid := range k.printed {
		k.volary(false, "verify", cid)
	}
}
