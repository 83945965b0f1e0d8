package main

import (
	"fmt"
	"time"
)

// The contenders' names.
const (
	volaryName = "volary"
	ipfsName   = "ipfs"
	daemonName = "ipfs daemon"
	resticName = "restic"
	kopiaName  = "kopia"
)

// A target is one line of what volary is meant to reach.
type target struct {
	what, asked, measured string
	verdict               string // reached, missed, or not measured
}

// targets holds the figures against what was asked for. Where two peers are named the faster one counts.
func targets(r results) []target {
	var (
		ipfs    = []string{ipfsName, daemonName}
		backups = []string{resticName, kopiaName}
		peers   = []string{ipfsName, daemonName, resticName, kopiaName}
	)
	return []target{
		r.faster("a", firstSnapshot, ipfs, 5),
		r.faster("a", firstSnapshot, backups, 1.5),
		r.faster("b", firstSnapshot, ipfs, 2),
		r.withinLimit("b", firstSnapshot, 1.25),
		r.faster("c", firstSnapshot, ipfs, 4),
		r.faster("c", firstSnapshot, backups, 1.5),
		r.faster("a", secondSnapshot, []string{kopiaName}, 2),
		r.faster("b", secondSnapshot, []string{kopiaName}, 2),
		r.faster("c", secondSnapshot, []string{kopiaName}, 2),
		r.faster("a", fullRestore, peers, 1.5),
		r.faster("b", fullRestore, peers, 1.5),
		r.faster("c", fullRestore, peers, 1.5),
	}
}

// faster asks for volary to be so many times as fast as the fastest of some peers, all of which were measured.
func (r results) faster(input string, s step, peers []string, times float64) target {
	t := target{
		what:     fmt.Sprintf("(%s) %s, against %s", input, s, joined(peers)),
		asked:    fmt.Sprintf("%.1f× faster", times),
		measured: "–", verdict: "not measured",
	}
	own, ok := r.durable(input, volaryName, s)
	if !ok {
		return t
	}
	best, name := time.Duration(0), ""
	for _, p := range peers {
		d, ok := r.durable(input, p, s)
		if !ok {
			return t
		}
		if name == "" || d < best {
			best, name = d, p
		}
	}
	got := best.Seconds() / own.Seconds()
	t.measured = fmt.Sprintf("%.2f× (%s %.2f s, volary %.2f s)", got, name, best.Seconds(), own.Seconds())
	t.verdict = verdict(got >= times)
	return t
}

// withinLimit asks for a step to take at most so many times what the machine allows.
func (r results) withinLimit(input string, s step, times float64) target {
	t := target{
		what:     fmt.Sprintf("(%s) %s, against the machine (the larger of %s, and %s)", input, s, limitHash, limitWrite),
		asked:    fmt.Sprintf("within %.2f×", times),
		measured: "–", verdict: "not measured",
	}
	own, ok := r.durable(input, volaryName, s)
	allowed := max(median(r.limits[limitHash], durableOf), median(r.limits[limitWrite], durableOf))
	if !ok || allowed == 0 {
		return t
	}
	got := own.Seconds() / allowed.Seconds()
	t.measured = fmt.Sprintf("%.2f× (machine %.2f s, volary %.2f s)", got, allowed.Seconds(), own.Seconds())
	t.verdict = verdict(got <= times)
	return t
}

func verdict(reached bool) string {
	if reached {
		return "reached"
	}
	return "**missed**"
}
