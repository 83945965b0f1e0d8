package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/volume/api"
)

func doctorCommand() *cli.Command {
	return command(cli.Command{
		Name:  "doctor",
		Usage: "check what this host depends on, and say what to do about it",
		Description: "Looks at the state directory, the kernel, the daemon, the network, Kubo and the cluster, the broken ones first, then the slow ones.\n" +
			"What it writes to measure, a file, a few blocks and a pin for each cluster endpoint, it removes again; of each such pin\n" +
			"a block of 64 bytes stays in the Kubo daemons until they collect. Exit code 12: something is broken.",
		Action: doctor,
	}, 0, 0)
}

// health is how a checked part is.
type health string

const (
	healthy health = "ok"
	slow    health = "slow" // works, but takes long, or not for everything
	broken  health = "broken"
)

// finding is what one check found. Its JSON is stable.
type finding struct {
	Check    string `json:"check"`
	Health   health `json:"health"`
	Detail   string `json:"detail"`
	Remedy   string `json:"remedy,omitempty"`
	Duration int64  `json:"duration_ns"`
}

func (f finding) as(h health, remedy string) finding {
	f.Health, f.Remedy = h, remedy
	return f
}

// found is a part in order.
func found(check, format string, args ...any) finding {
	return finding{Check: check, Health: healthy, Detail: fmt.Sprintf(format, args...)}
}

// fault is a broken part. An error's own hint is the remedy.
func fault(check string, err error, remedy string) finding {
	text, hint, _ := strings.Cut(err.Error(), "\n")
	return finding{Check: check, Health: broken, Detail: abbreviate(text), Remedy: cmp.Or(hint, remedy)}
}

// checkTime bounds each check but that of a cluster endpoint, which has to wait for pins.
const checkTime = 10 * time.Second

// check is one thing to look at; it may find several.
type check func(ctx context.Context) []finding

type doctorJSON struct {
	Health   health    `json:"health"` // of the worst
	Findings []finding `json:"findings"`
}

func doctor(c *cli.Context) error {
	h, err := openHome(c, false)
	if err != nil {
		return err
	}
	local := []check{h.checkDisk, checkKernel, checkFileSystems, checkCgroups, h.checkDaemon, h.checkNetwork}
	var fs []finding
	// One after the other: what is measured at the same time is in each other's way.
	for _, check := range append(local, h.remoteChecks()...) {
		begin := time.Now()
		some := check(c.Context)
		for i := range some {
			some[i].Duration = time.Since(begin).Nanoseconds()
		}
		fs = append(fs, some...)
		if err := c.Context.Err(); err != nil {
			return err
		}
	}
	order := []health{broken, slow, healthy}
	slices.SortStableFunc(fs, func(a, b finding) int {
		return cmp.Compare(slices.Index(order, a.Health), slices.Index(order, b.Health))
	})
	err = outputOf(c).object(doctorJSON{fs[0].Health, fs}, func(out io.Writer) {
		for _, f := range fs {
			line := fmt.Sprintf("%-6s  %s: %s", f.Health, f.Check, quote(f.Detail))
			if f.Remedy != "" {
				line += "; " + f.Remedy
			}
			fmt.Fprintln(out, line)
		}
	})
	if err == nil && fs[0].Health == broken {
		err = brokenError{fs[0].Check + " is broken"}
	}
	return err
}

// checkDaemon asks the daemon, if there is one, which program it is.
func (h *home) checkDaemon(ctx context.Context) []finding {
	const name = "daemon"
	ctx, done := context.WithTimeout(ctx, checkTime)
	defer done()
	begin := time.Now()
	host, err := api.Dial(ctx, h.path(socketName), api.DialOptions{Kinds: errorKinds})
	if errors.Is(err, api.ErrNoDaemon) || errors.Is(err, syscall.ENAMETOOLONG) {
		return []finding{found(name, "none runs; every command opens the state itself")}
	}
	restart := "restart it: mounted volumes outlive that"
	if err != nil {
		return []finding{fault(name, err, restart)}
	}
	defer host.Close()
	st, err := host.Upkeep.Status(ctx)
	switch {
	case err != nil:
		return []finding{fault(name, err, restart)}
	case st.Version != version():
		f := found(name, "is of version %s, this program of %s", st.Version, version())
		return []finding{f.as(slow, restart)}
	}
	return []finding{found(name, "version %s, status in %s", st.Version, round(time.Since(begin)))}
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Microsecond)
}

// together runs checks at the same time, and gives what they found in their order.
func together(ctx context.Context, checks []check) []finding {
	all := make([][]finding, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() { all[i] = check(ctx) })
	}
	wg.Wait()
	return slices.Concat(all...)
}
