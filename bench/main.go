// Command bench compares volary with its peers on one machine: ipfs (offline and with a daemon), restic and kopia.
//
//	go run ./bench [-run REGEXP] [-rounds 3] [-out bench/RESULTS.md] [-dir DIR] [-quick]
//
// Start with plan.run, which is the order of things: in each round, on each input, each contender gets a fresh
// repository and does the same steps. The second part, volumePlan.run, compares mounted volumes with a directory of
// the local disk and with what peers mount; it wants root. The third, networkPlan.run, has several hosts tell each other
// of heads and read from each other, beside other ways to carry bytes. The fourth, dockerPlan.run, has containers of real
// engines use volumes, beside volumes of their own. What is measured, and what for fairness is not, is at [meter.Run].
// It guarantees that a contender whose restore is wrong has no figures, and that nothing it made stays behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/p2p/nettest"
	"github.com/volary/volary/pinset/cluster/clustertest"
)

func main() {
	nettest.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var (
		only   = flag.String("run", ".", "regular `expression` over INPUT/CONTENDER, such as a/volary, v/GROUP/CONTENDER of volumes, such as v/read/ext4, n/GROUP/CONTENDER of several hosts, such as n/read/curl, and d/GROUP/CONTENDER of containers, such as d/pgbench/volume")
		rounds = flag.Int("rounds", 3, "how often everything is measured; medians are reported")
		out    = flag.String("out", "", "`file` for the report; standard output if empty")
		dir    = flag.String("dir", filepath.Join(".cache", "bench"), "`directory` to work in; wants 20 GB of the disk to be measured")
		parts  = flag.Int("dataset", 0, "`GiB` of the dataset that containers read; 10 if not given")
		quick  = flag.Bool("quick", false, "small inputs, one round: tries the benchmark, measures nothing")
	)
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if wantsCluster(match) || wantsEngines(match) {
		clustertest.Isolate()
	}
	sizes, volumes, hosts, containers := fullSizes, fullVolumes, fullNetwork, fullDocker
	if *quick {
		sizes, volumes, hosts, containers, *rounds = quickSizes, quickVolumes, quickNetwork, quickDocker, 1
	}
	if *parts > 0 {
		containers.large.parts = *parts
	}
	if *rounds < 1 {
		return errors.New("-rounds: at least one")
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return fmt.Errorf("make the working directory: %w", err)
	}
	work, err := os.MkdirTemp(*dir, "run-")
	if err != nil {
		return fmt.Errorf("make the working directory: %w", err)
	}
	if work, err = realPath(work); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeAll(work)) }()
	m, err := newMeter(work)
	if err != nil {
		return err
	}
	defer m.Close()

	t, err := findTools(ctx)
	if err != nil {
		return err
	}
	p := plan{work: work, meter: m, sizes: sizes, rounds: *rounds, match: match, contenders: t.contenders(m)}
	v := volumePlan{work: work, meter: m, tools: t, sizes: volumes, rounds: *rounds, match: match}
	n := networkPlan{work: work, meter: m, tools: t, sizes: hosts, rounds: *rounds, match: match}
	d := dockerPlan{work: work, meter: m, tools: t, sizes: containers, rounds: *rounds, match: match}
	var want int64
	if p.wantsAny() || v.wantsAny() || n.wantsAny() {
		want = 10 * sizes.big
	}
	if len(d.wanted()) > 0 {
		want = max(want, containers.space())
	}
	if err := checkSpace(work, want); err != nil {
		return err
	}
	start := time.Now()
	res, err := p.run(ctx)
	if err != nil {
		return err
	}
	volumeRes, failed := v.run(ctx)
	networkRes, networkFailed := n.run(ctx)
	dockerRes, dockerFailed := d.run(ctx)
	failed = errors.Join(failed, networkFailed, dockerFailed)
	if ctx.Err() != nil {
		return errors.Join(failed, ctx.Err())
	}
	facts, err := machineFacts(ctx, work, t, m.floor)
	if err != nil {
		return err
	}
	rep := report{facts: facts, results: res, volumes: volumeRes, network: networkRes, docker: dockerRes, took: time.Since(start), rounds: *rounds, quick: *quick}
	return errors.Join(failed, writeReport(*out, rep))
}

// wantsCluster says whether something is asked for that starts a cluster. It must be in a network namespace that has only
// loopback, and so must all that talks with it.
func wantsCluster(match *regexp.Regexp) bool {
	p := volumePlan{match: match}
	return cannotMount() == "" && slices.ContainsFunc(groups(), func(g group) bool {
		return slices.Contains(g.contenders, clusterName) && p.wants(g, clusterName)
	})
}

// wantsEngines says whether something is asked for that starts Docker engines, whose hosts are in such a namespace too.
func wantsEngines(match *regexp.Regexp) bool {
	p := dockerPlan{match: match}
	return cannotRunEngines() == "" && len(p.wanted()) > 0
}

// realPath is a path from the root without symbolic links, which engines refuse.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// checkSpace refuses to begin what the disk cannot hold.
func checkSpace(dir string, want int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("ask for free space in %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < want {
		return fmt.Errorf("%s has %.0f MiB free, the benchmark wants %.0f MiB\nchoose another place with -dir", dir, mib(free), mib(want))
	}
	return nil
}

// writeReport writes to a file in one step, or to standard output if path is empty.
func writeReport(path string, r report) error {
	if path == "" {
		return r.write(os.Stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".results-")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	defer os.Remove(f.Name())
	if err := errors.Join(r.write(io.MultiWriter(f, os.Stdout)), f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return os.Rename(f.Name(), path)
}

// progress tells the person who waits.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
