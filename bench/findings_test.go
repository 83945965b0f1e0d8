package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// wantRowsInGroups wants each figure to have one row in the whole report, and each of some rows to be in one of the groups.
func wantRowsInGroups(t *testing.T, some []row, groups []string) {
	t.Helper()
	times := map[figure]int{}
	for _, w := range slices.Concat(rows(), networkRows(), dockerRows()) {
		times[w.figure]++
	}
	for _, w := range some {
		if !slices.Contains(groups, w.group) {
			t.Errorf("%s is in no group: %q", w.figure, w.group)
		}
		if n := times[w.figure]; n != 1 {
			t.Errorf("%s has %d rows", w.figure, n)
		}
	}
}

// wantUnmeasured wants targets that nothing was measured for to say so, and what they ask for with a unit.
func wantUnmeasured(t *testing.T, targets []target) {
	t.Helper()
	for _, tg := range targets {
		if tg.verdict != "not measured" {
			t.Errorf("%s: %q of nothing", tg.what, tg.verdict)
		}
		if strings.Contains(tg.asked, "  ") || strings.HasSuffix(tg.asked, " ") {
			t.Errorf("%s asks for %q, which has no unit", tg.what, tg.asked)
		}
	}
}

// wantReport wants a report to have some texts, and not to have others, of which nothing was measured.
func wantReport(t *testing.T, r report, has, lacks []string) {
	t.Helper()
	var b bytes.Buffer
	if err := r.write(&b); err != nil {
		t.Fatal(err)
	}
	for _, text := range has {
		if !strings.Contains(b.String(), text) {
			t.Errorf("the report lacks %q:\n%s", text, &b)
		}
	}
	for _, text := range append(lacks, "%!") {
		if strings.Contains(b.String(), text) {
			t.Errorf("the report has %q:\n%s", text, &b)
		}
	}
}
