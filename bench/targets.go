package main

import (
	"fmt"
	"time"
)

// The contenders' names.
const (
	volaryName = "volary"
	onKuboName = "volary on kubo"
	carName    = "ipfs dag import"
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
		r.faster(volaryName, "a", firstSnapshot, ipfs, 5),
		r.faster(volaryName, "a", firstSnapshot, backups, 1.5),
		r.faster(volaryName, "b", firstSnapshot, ipfs, 2),
		r.withinLimit("b", firstSnapshot, 1.25),
		r.faster(volaryName, "c", firstSnapshot, ipfs, 4),
		r.faster(volaryName, "c", firstSnapshot, backups, 1.5),
		r.faster(volaryName, "a", secondSnapshot, []string{kopiaName}, 2),
		r.faster(volaryName, "b", secondSnapshot, []string{kopiaName}, 2),
		r.faster(volaryName, "c", secondSnapshot, []string{kopiaName}, 2),
		r.faster(volaryName, "a", fullRestore, peers, 1.5),
		r.faster(volaryName, "b", fullRestore, peers, 1.5),
		r.faster(volaryName, "c", fullRestore, peers, 1.5),
		r.faster(onKuboName, "a", firstSnapshot, []string{daemonName}, 5),
		r.faster(onKuboName, "b", firstSnapshot, []string{daemonName}, 2),
		r.faster(onKuboName, "a", fullRestore, []string{daemonName}, 1),
		r.faster(onKuboName, "b", fullRestore, []string{daemonName}, 1),
	}
}

// faster asks for a volary to be so many times as fast as the fastest of some peers, all of which were measured.
func (r results) faster(who, input string, s step, peers []string, times float64) target {
	t := target{
		what:     fmt.Sprintf("(%s) %s, against %s", input, s, joined(peers)),
		asked:    fmt.Sprintf("%.1f× faster", times),
		measured: "–", verdict: "not measured",
	}
	if who != volaryName {
		t.what = fmt.Sprintf("(%s) %s, %s, against %s", input, s, who, joined(peers))
	}
	own, ok := r.durable(input, who, s)
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
	t.measured = fmt.Sprintf("%.2f× (%s %.2f s, %s %.2f s)", got, name, best.Seconds(), who, own.Seconds())
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
