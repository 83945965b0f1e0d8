package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// report is what a run found, ready to be written.
type report struct {
	facts   []fact
	results results
	volumes *volumeResults  // nil if nothing of that part was asked for
	network *networkResults // likewise
	docker  *dockerResults  // likewise
	took    time.Duration
	rounds  int
	quick   bool
}

// write writes the report as Markdown.
func (r report) write(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString("# Volary and its peers\n\nWritten by `make bench`.\n\n")
	if r.quick {
		b.WriteString("**A quick run: small inputs, one round. These figures say nothing about speed.**\n\n")
	}
	for _, f := range r.facts {
		fmt.Fprintf(&b, "- %s: %s\n", f.name, f.value)
	}
	fmt.Fprintf(&b, "- medians of %d rounds, contenders in turns; the run took %s\n", r.rounds, r.took.Round(time.Second))
	if len(r.results.inputs) > 0 {
		r.writeSnapshots(&b)
	}
	if r.volumes != nil {
		r.volumes.write(&b)
	}
	if r.network != nil {
		r.network.write(&b)
	}
	if r.docker != nil {
		r.docker.write(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// writeSnapshots writes the first part.
func (r report) writeSnapshots(b *bytes.Buffer) {
	b.WriteString(`
Times are in seconds until everything was on disk: the command and a sync of the file system after it; all earlier
dirty pages were written before. Inputs were in the page cache, and at least five seconds old. The number in brackets is how many times as long as
volary it took. Memory is the peak resident size. Space is what the repository takes on disk, caches included.
What was restored was compared with the input in the first round.

`)
	for _, c := range r.results.contenders {
		if c.note != "" {
			fmt.Fprintf(b, "- %s: %s\n", c.name, c.note)
		}
	}
	writeTargets(b, targets(r.results))
	for _, in := range r.results.inputs {
		r.writeInput(b, in)
	}
	r.writeDetails(b)
}

func writeTargets(b *bytes.Buffer, all []target) {
	b.WriteString("\n## Targets\n\n| target | asked | measured | |\n| --- | --- | --- | --- |\n")
	for _, t := range all {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", t.what, t.asked, t.measured, t.verdict)
	}
}

func (r report) writeInput(b *bytes.Buffer, in input) {
	fmt.Fprintf(b, "\n## (%s) %s\n\n|", in.name, in.title)
	for _, s := range steps {
		if s.on(in) {
			fmt.Fprintf(b, " | %s", s)
		}
	}
	b.WriteString(" | memory, snapshot | memory, restore | space |\n| ---")
	for _, s := range steps {
		if s.on(in) {
			b.WriteString(" | ---:")
		}
	}
	b.WriteString(" | ---: | ---: | ---: |\n")
	for _, c := range r.results.contenders {
		if _, ok := r.results.durable(in.name, c.name, firstSnapshot); !ok {
			continue
		}
		fmt.Fprintf(b, "| %s", c.name)
		for _, s := range steps {
			if s.on(in) {
				fmt.Fprintf(b, " | %s", r.results.cell(in.name, c.name, s))
			}
		}
		snapshot := r.results.usages[key{in.name, c.name, firstSnapshot}]
		restore := r.results.usages[key{in.name, c.name, fullRestore}]
		space := median(r.results.spaces[key{in.name, c.name, firstSnapshot}], func(n int64) int64 { return n })
		fmt.Fprintf(b, " | %.0f MiB | %.0f MiB | %.0f MiB |\n",
			mib(median(snapshot, memoryOf)), mib(median(restore, memoryOf)), mib(space))
	}
	if !in.limits {
		return
	}
	b.WriteString("\n| the machine | s |\n| --- | ---: |\n")
	for _, name := range limits {
		fmt.Fprintf(b, "| %s | %.2f |\n", name, median(r.results.limits[name], durableOf).Seconds())
	}
}

func (r report) writeDetails(b *bytes.Buffer) {
	b.WriteString(`
## All figures

Medians, in seconds; "until it ended" leaves the sync out. CPU is user and system, of daemons too.

| input | contender | step | durable | least | most | until it ended | CPU | memory | space |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`)
	for _, in := range r.results.inputs {
		for _, c := range r.results.contenders {
			for _, s := range steps {
				k := key{in.name, c.name, s}
				us := r.results.usages[k]
				if len(us) == 0 {
					continue
				}
				fmt.Fprintf(b, "| %s | %s | %s | %.2f | %.2f | %.2f | %.2f | %.2f | %.0f MiB | %.0f MiB |\n", in.name, c.name, s,
					median(us, durableOf).Seconds(),
					slices.MinFunc(us, byDurable).Durable.Seconds(),
					slices.MaxFunc(us, byDurable).Durable.Seconds(),
					median(us, func(u usage) time.Duration { return u.Plain }).Seconds(),
					median(us, func(u usage) time.Duration { return u.CPU }).Seconds(),
					mib(median(us, memoryOf)),
					mib(median(r.results.spaces[k], func(n int64) int64 { return n })))
			}
		}
	}
}

// on says whether a step is measured on an input.
func (s step) on(in input) bool {
	return in.change != nil || (s != changedSnapshot && s != singleFile)
}

// durable is the median time of a step, false if it was not measured.
func (r results) durable(input, contender string, s step) (time.Duration, bool) {
	us := r.usages[key{input, contender, s}]
	if len(us) == 0 {
		return 0, false
	}
	return median(us, durableOf), true
}

// cell is a step's time and, of peers, its ratio to volary's.
func (r results) cell(input, contender string, s step) string {
	d, ok := r.durable(input, contender, s)
	if !ok {
		return "–"
	}
	base, ok := r.durable(input, volaryName, s)
	if !ok || contender == volaryName {
		return fmt.Sprintf("%.2f", d.Seconds())
	}
	return fmt.Sprintf("%.2f (%.1f)", d.Seconds(), d.Seconds()/base.Seconds())
}

func durableOf(u usage) time.Duration { return u.Durable }
func memoryOf(u usage) int64          { return u.Memory }
func byDurable(a, b usage) int        { return int(a.Durable - b.Durable) }
func mib(n int64) float64             { return float64(n) / (1 << 20) }

// median is the middle value, of an even number the mean of the two in the middle; 0 of none.
func median[T any, N ~int64](all []T, of func(T) N) N {
	if len(all) == 0 {
		return 0
	}
	var ns []N
	for _, v := range all {
		ns = append(ns, of(v))
	}
	slices.Sort(ns)
	return (ns[(len(ns)-1)/2] + ns[len(ns)/2]) / 2
}

// joined is "a", "a and b", "a, b and c".
func joined(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
