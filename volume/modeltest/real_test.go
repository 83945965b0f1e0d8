//go:build real

package modeltest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/volary/volary/snapshot/disktest"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/modeltest"
)

// Environment of a run: the seed of one that failed, how long it is to be, and whether to look for a shorter one
// that fails as well.
const (
	envSeed   = "MODEL_SEED"
	envSteps  = "MODEL_STEPS"
	envShrink = "MODEL_SHRINK"
)

func number(t *testing.T, env string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(env)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

func TestRealAVolumeIsAPlainDirectory(t *testing.T) {
	t.Run("lazy", func(t *testing.T) { model(t, nil, "", 2_000) })
	t.Run("full", func(t *testing.T) { model(t, map[string]string{"lower": volume.LowerFull}, "", 1_000) })
}

// TestRealDaemonsDieAndAVolumeIsAPlainDirectory is about the real program: it is killed and upgraded in the middle of
// what it does, while the mount is in use and files are held open.
func TestRealDaemonsDieAndAVolumeIsAPlainDirectory(t *testing.T) {
	bin := program(t)
	t.Run("lazy", func(t *testing.T) { model(t, nil, bin, 2_000) })
	t.Run("full", func(t *testing.T) { model(t, map[string]string{"lower": volume.LowerFull}, bin, 1_000) })
}

// model runs random operations on a volume and on a plain directory. If it is given a program, its daemons have the
// volume, and end now and then.
func model(t *testing.T, options map[string]string, program string, steps uint64) {
	seed, steps := number(t, envSeed, rand.Uint64N(1e9)), number(t, envSteps, steps)
	disk := disktest.New(t, 8<<30)
	ops, failed := run(t, filepath.Join(disk.Mount, "first"), program, options,
		random(seed, int(steps), options["lower"] == volume.LowerFull, program != ""))
	if failed == nil {
		return
	}
	t.Errorf("seed %d, step %d: %v\nto run it again: %s=%d %s=%d go test -tags=real -run '^%s$' ./volume/modeltest", seed, len(ops), failed,
		envSeed, seed, envSteps, steps, t.Name())
	if os.Getenv(envShrink) == "" {
		return
	}
	n := 0
	ops = modeltest.Shrink(ops, time.Now().Add(5*time.Minute), func(ops []modeltest.Op) bool {
		n++
		_, err := run(t, filepath.Join(disk.Mount, fmt.Sprint("shrink-", n)), program, options, list(ops))
		return err != nil
	})
	for _, o := range ops {
		t.Log(o)
	}
}

// source gives the next operation, given how many there were, until it says that there is none.
type source func(r *rig, n int) (modeltest.Op, bool)

func list(ops []modeltest.Op) source {
	return func(_ *rig, n int) (modeltest.Op, bool) {
		if n >= len(ops) {
			return modeltest.Op{}, false
		}
		return ops[n], true
	}
}

// random makes operations, with a commit after every few, and now and then something else after that.
func random(seed uint64, steps int, copied, killing bool) source {
	g := modeltest.NewGenerator(seed, copied)
	untilCommit := 150
	var next []string
	return func(r *rig, n int) (modeltest.Op, bool) {
		if len(next) > 0 {
			o := modeltest.Op{Kind: next[0], Seed: uint64(g.IntN(1 << 20)), Mode: uint32(g.IntN(2))}
			next = next[1:]
			return o, true
		}
		if untilCommit--; untilCommit >= 0 {
			return g.Next(r.pair), n < steps
		}
		g.Count(r.pair)
		untilCommit = 1 + g.IntN(60)
		if killing {
			untilCommit = 1 + g.IntN(30)
		}
		next = []string{"commit"}
		if n < 250 {
			next = []string{"rebase"}
		}
		others := []string{"look", "look", "look", "remount", "remount", "restart", "rebase", "rebase", "rollback", "clone", "collect"}
		if killing {
			others = append(others, "kill", "kill", "kill", "kill", "kill", "kill", "kill", "upgrade", "upgrade", "upgrade", "lose", "lose")
		}
		if i := g.IntN(2 * len(others)); i < len(others) {
			next = append(next, others[i])
		}
		return modeltest.Op{Kind: "look"}, true
	}
}

// run does what a source says with a fresh volume in a directory, and returns what was done and how it failed.
func run(t *testing.T, dir, program string, options map[string]string, next source) (ops []modeltest.Op, err error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	began := time.Now()
	r, err := newRig(ctx, dir, program, options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if endErr := r.end(ctx); endErr != nil {
			t.Error(endErr)
		}
		t.Logf("%d steps, %d commits, %d comparisons, errors on both sides: %v, in %v", len(ops), r.made, r.compare,
			r.errors, time.Since(began).Round(time.Second))
		if d, ok := r.host.(*daemon); ok {
			t.Logf("daemons killed or told to end: %v; in the middle of a request: %d; that could not end: %d; databases lost: %d", d.kills, d.cut, d.followed(), d.lost)
			if t.Failed() || err != nil {
				t.Logf("the daemons said:\n%s", d.log.String())
			}
		}
	}()
	for o, more := next(r, 0); more; o, more = next(r, len(ops)) {
		ops = append(ops, o)
		if err := r.do(ctx, o); err != nil {
			return ops, err
		}
	}
	return ops, r.do(ctx, modeltest.Op{Kind: "commit"})
}
