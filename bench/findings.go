package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// findings are what a part of a run has found. They must be made by newFindings.
type findings struct {
	figures map[series][]float64
	without []string // what was not measured, and why
}

func newFindings() findings { return findings{figures: map[series][]float64{}} }

// record keeps one measurement.
func (m *findings) record(f figure, who string, value float64) {
	k := series{f, who}
	m.figures[k] = append(m.figures[k], value)
	progress("%-24s %-40s %10.2f %s", who, f, value, f.row().unit)
}

// leaveOut says in the report what is not measured, and why.
func (m *findings) leaveOut(what string, why error) {
	first, _, _ := strings.Cut(why.Error(), "\n")
	line := what + ": " + first
	progress("left out: %s", line)
	if !slices.Contains(m.without, line) {
		m.without = append(m.without, line)
	}
}

// median is the middle measurement, false if there is none.
func (m *findings) median(f figure, who string) (float64, bool) {
	all := m.figures[series{f, who}]
	return middle(all), len(all) > 0
}

// lessThan asks for a contender's figure to be below a limit.
func (m *findings) lessThan(what, who string, f figure, limit float64) target {
	w := f.row()
	t := unmeasured(what, fmt.Sprintf("below %.0f %s", limit, w.unit))
	if got, ok := m.median(f, who); ok {
		t.measured = fmt.Sprintf("%.*f %s", w.digits, got, w.unit)
		t.verdict = verdict(got < limit)
	}
	return t
}

// atLeast asks for a contender to have at least such a part of another one's speed.
func (m *findings) atLeast(what, who, other string, f figure, part float64) target {
	w := f.row()
	t := unmeasured(what, fmt.Sprintf("at least %.2f of its speed", part))
	own, ok := m.median(f, who)
	base, also := m.median(f, other)
	if !ok || !also {
		return t
	}
	got := w.speed(own, base)
	t.measured = fmt.Sprintf("%.2f (%.*f and %.*f %s)", got, w.digits, own, w.digits, base, w.unit)
	t.verdict = verdict(got >= part)
	return t
}

// table is a table of a report: the rows of a group, a contender a column.
type table struct {
	group, title string
	contenders   []string
}

// part is a part of the report: its tables, with all of their rows.
type part struct {
	title   string // of what its figures are
	targets []target
	tables  []table
	rows    []row
	bases   []string // of the numbers in brackets; see writeTable
}

// writePart writes what was not measured, and if something was, how it is held against the targets, and the tables.
func (m *findings) writePart(b *bytes.Buffer, p part) {
	m.writeWithout(b)
	if len(m.figures) == 0 {
		return
	}
	writeTargets(b, p.targets)
	for _, t := range p.tables {
		m.writeTable(b, t, p.rows, p.bases...)
	}
	fmt.Fprintf(b, "\n## All figures of %s\n\n", p.title)
	m.writeAll(b, p.tables, p.rows)
}

func (m *findings) writeWithout(b *bytes.Buffer) {
	for _, line := range m.without {
		fmt.Fprintf(b, "Not measured: %s\n\n", line)
	}
}

// writeTable writes what was measured of a group. In brackets is the speed as a part of that of the first of bases that
// has the figure.
func (m *findings) writeTable(b *bytes.Buffer, t table, rows []row, bases ...string) {
	have := slices.DeleteFunc(slices.Clone(t.contenders), func(who string) bool {
		return !slices.ContainsFunc(rows, func(w row) bool { return w.group == t.group && len(m.figures[series{w.figure, who}]) > 0 })
	})
	if len(have) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n| | | %s |\n| --- | --- |%s\n", t.title, strings.Join(have, " | "), strings.Repeat(" ---: |", len(have)))
	for _, w := range rows {
		if w.group != t.group {
			continue
		}
		line, any := fmt.Sprintf("| %s | %s |", w.figure, w.unit), false
		for _, who := range have {
			cell, ok := m.cell(w, who, bases)
			line += " " + cell + " |"
			any = any || ok
		}
		if any {
			b.WriteString(line + "\n")
		}
	}
}

// cell is a figure and its ratio to that of a base.
func (m *findings) cell(w row, who string, bases []string) (string, bool) {
	got, ok := m.median(w.figure, who)
	if !ok {
		return "–", false
	}
	text := fmt.Sprintf("%.*f", w.digits, got)
	for _, base := range bases {
		if other, ok := m.median(w.figure, base); ok {
			if base != who {
				text += fmt.Sprintf(" (%.2f)", w.speed(got, other))
			}
			break
		}
	}
	return text, true
}

// writeAll writes every series with its extremes.
func (m *findings) writeAll(b *bytes.Buffer, tables []table, rows []row) {
	b.WriteString("| figure | contender | unit | median | least | most | times |\n| --- | --- | --- | ---: | ---: | ---: | ---: |\n")
	for _, t := range tables {
		for _, w := range rows {
			for _, who := range t.contenders {
				all := m.figures[series{w.figure, who}]
				if w.group != t.group || len(all) == 0 {
					continue
				}
				fmt.Fprintf(b, "| %s | %s | %s | %.*f | %.*f | %.*f | %d |\n", w.figure, who, w.unit,
					w.digits, middle(all), w.digits, slices.Min(all), w.digits, slices.Max(all), len(all))
			}
		}
	}
}

// middle is the median of numbers; 0 of none.
func middle(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// thousands is a number with its thousands marked.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return thousands(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
