package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/store"
)

func putBatch(n int) []blocks.Block {
	if n%5 == 0 {
		return blockstest.Random(uint64(n), 1, 300<<10)
	}
	return blockstest.Random(uint64(n), 1+n%20, 100+n%3000)
}

func keptBlocks(n int) []blocks.Block  { return blockstest.Random(uint64(1000+n), 60, 1500) }
func looseBlocks(n int) []blocks.Block { return blockstest.Random(uint64(2000+n), 60, 1500) }
func damaged(n int) blocks.Block       { return blockstest.Random(uint64(3000+n), 1, 700)[0] }
func recordName(n int) string          { return fmt.Sprintf("rec/%d", n) }

// lossyFrame is what each of the lossyBlocks takes in a pack.
const lossyFrame = 16 + 36 + 1000

// lossyBlocks are one that dies, one that lives in a pack cut short, two that are lost, and the root of the three.
func lossyBlocks(n int) (root blocks.Block, bs []blocks.Block) {
	return blockstest.Block(cid.DagCBOR, fmt.Appendf(nil, "lossy root %d", n)), blockstest.Random(uint64(4000+n), 4, 1000)
}

// runChild runs a child until it dies and returns the lines it said.
func runChild(t *testing.T, env ...string) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGKILL {
		t.Fatalf("the child was to be killed at the step but ended with %v\n%s", err, errs.String())
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

// stopPoints lists each label, the common ones at several times.
func stopPoints() []string {
	var at []string
	for _, label := range store.Steps() {
		at = append(at, label, label+":2", label+":3")
	}
	return append(at, store.StepPackWritten+":100", store.StepPackCreated+":5")
}

func TestAKillAtAnyStepLosesNothingAcknowledged(t *testing.T) {
	for _, at := range stopPoints() {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "store")
			said := runChild(t, "STORE_CHILD=steps", "STORE_DIR="+dir, "STORE_STEP="+at)
			checkAcknowledged(t, dir, said)
		})
	}
}

// checkAcknowledged opens the store a child left and looks that all it was told is there, that all it claims is
// sound, and that it works.
func checkAcknowledged(t *testing.T, dir string, said []string) {
	t.Helper()
	s, err := store.Open(dir, store.Options{PackSize: 100 << 10})
	if err != nil {
		t.Fatalf("after %v: %v", said, err)
	}
	defer s.Close()
	for _, line := range said {
		var what string
		var n int
		if _, err := fmt.Sscan(line, &what, &n); err != nil {
			continue
		}
		switch what {
		case "kept":
			wantAll(t, s, keptBlocks(n))
		case "record":
			if v, err := s.Record(t.Context(), recordName(n)); err != nil || string(v) != "v" {
				t.Fatalf("record %d: %q, %v", n, v, err)
			}
		case "dropped":
			wantNone(t, s, []blocks.Block{damaged(n)})
		case "swept":
			wantNone(t, s, looseBlocks(n))
		case "lost", "healed":
			checkLossy(t, lossyDir(dir, n), n, what == "healed")
		}
	}
	wantCount(t, s, -1)
	after := blockstest.Random(9999, 50, 4000)
	put(t, s, after...)
	put(t, s, keptBlocks(0)...)
	put(t, s, looseBlocks(0)...)
	mustClose(t, s)
	s = open(t, dir, store.Options{})
	wantAll(t, s, after)
	wantAll(t, s, keptBlocks(0))
	wantAll(t, s, looseBlocks(0))
}

// checkLossy looks that nothing but what was lost is, that what was put again is not, and that no mark says
// otherwise.
func checkLossy(t *testing.T, dir string, n int, healed bool) {
	t.Helper()
	root, bs := lossyBlocks(n)
	s := open(t, dir, store.Options{PackSize: 1})
	wantAll(t, s, []blocks.Block{bs[1], root})
	whole := true
	for _, b := range bs[2:] {
		switch _, err := s.Get(t.Context(), b.Cid()); {
		case errors.Is(err, snapshot.ErrDamaged) && !healed:
			whole = false
		case err != nil:
			t.Fatalf("healed %v: %v", healed, err)
		}
	}
	x := session(t, s)
	if !whole {
		wantAdopted(t, x, false, root)
	}
	put(t, x, bs...)
	wantAll(t, s, bs)
	finish(t, begin(t, s), append(bs, root)...)
	wantCount(t, s, len(bs)+1)
	mustClose(t, s)
	said := warnings(t, dir, store.Options{}, func(s *store.Store) { wantCount(t, s, len(bs)+1) })
	if said != "" {
		t.Errorf("a healed store warns: %s", said)
	}
}

func TestKilledAtRandomPutsAreFoundAgain(t *testing.T) {
	dir := t.TempDir()
	next := 0
	for round := range 12 {
		next = killRound(t, dir, next, 3+round*5)
		s, err := store.Open(dir, store.Options{PackSize: 1 << 20})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for n := range next {
			wantAll(t, s, putBatch(n))
		}
		wantCount(t, s, -1)
		mustClose(t, s)
	}
}

// killRound lets a child put from a number on, kills it after some more lines, and returns the number after the
// last one it acknowledged.
func killRound(t *testing.T, dir string, from, lines int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "STORE_CHILD=put", "STORE_DIR="+dir, fmt.Sprint("STORE_FROM=", from))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := from - 1
	seen := 0
	for sc := bufio.NewScanner(out); sc.Scan(); seen++ {
		if _, err := fmt.Sscanf(sc.Text(), "put %d", &last); err != nil {
			t.Fatalf("child said %q", sc.Text())
		}
		if seen == lines {
			time.AfterFunc(time.Duration(from%13)*100*time.Microsecond, func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait()
	if last < from+lines {
		t.Fatalf("the child ended after %d of %d puts", last-from, lines)
	}
	return last + 1
}

// Whatever a crash makes of a pack's end, no byte of it is claimed that does not verify.
func TestATornTailIsCutWhereItsSoundPartEnds(t *testing.T) {
	const size = 1000
	frame := 16 + 36 + size
	bs := blockstest.Random(1, 10, size)
	for _, tc := range []struct {
		name string
		at   int // where bytes are changed; -1 cuts the file in the middle of the sixth frame
		want int
	}{
		{"a frame cut short", -1, 5},
		{"a changed byte of data", 5*frame + 500, 5},
		{"a changed size", 5*frame + 5, 5},
		{"a changed CID", 5*frame + 30, 5},
		{"a changed magic", 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, copied := t.TempDir(), t.TempDir()
			s := open(t, dir, store.Options{})
			put(t, s, bs...)
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			spoilTail(t, packs(t, copied)[0], tc.at, 5*frame+100)
			r := open(t, copied, store.Options{ReadOnly: true})
			wantAll(t, r, bs[:tc.want])
			wantCount(t, r, tc.want)
			mustClose(t, r)
			s = open(t, copied, store.Options{})
			wantAll(t, s, bs[:tc.want])
			wantCount(t, s, tc.want)
			put(t, s, bs...)
			mustClose(t, s)
			s = open(t, copied, store.Options{})
			wantAll(t, s, bs)
		})
	}
}

func spoilTail(t *testing.T, path string, at, cut int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		data = data[:cut]
	} else {
		data[at] ^= 0x40
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
