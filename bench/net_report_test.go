package main

import (
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func networkOf(figures map[series][]float64) *networkResults {
	return &networkResults{sizes: quickNetwork, findings: findings{figures: figures}}
}

func TestAColdReadIsHeldAgainstTheStream(t *testing.T) {
	for _, tc := range []struct {
		name         string
		cat, through []float64
		want         string
	}{
		{"as asked", []float64{0.7}, []float64{1}, "reached"},
		{"too slow", []float64{0.69}, []float64{1}, "**missed**"},
		{"medians count", []float64{2, 0.1, 0.1}, []float64{1, 1, 9}, "**missed**"},
		{"no stream", []float64{1}, nil, "not measured"},
		{"not read", nil, []float64{1}, "not measured"},
	} {
		r := networkOf(map[series][]float64{{readSpeed, catName}: tc.cat, {readSpeed, streamName}: tc.through})
		if got := r.beside(catName, streamName, 0.7); got.verdict != tc.want {
			t.Errorf("%s: verdict %q (%s), want %q", tc.name, got.verdict, got.measured, tc.want)
		}
	}
}

func TestEveryFigureOfTheNetworkHasOneRowInAGroup(t *testing.T) {
	var names []string
	for _, g := range networkGroups() {
		names = append(names, g.group)
	}
	wantRowsInGroups(t, networkRows(), names)
	wantUnmeasured(t, networkOf(nil).targets())
}

func TestAReportHasOnlyWhatWasMeasuredOfTheNetwork(t *testing.T) {
	r := networkOf(map[series][]float64{{allMost, manyHostsName}: {240, 260, 200}, {allMost, daemonsName}: {7}})
	wantReport(t, report{network: r}, []string{
		"| 50 hosts: known on all hosts, 99 of 100 heads | below 250 ms | 240.0 ms | reached |",
		"| known on all hosts, 99 of 100 heads | ms | 240.0 | 7.0 |",
	}, []string{"## Cold reads", "# Volumes", "| commit, half"})
}

func TestAttributesAreThoseOfTheTest(t *testing.T) {
	const printed = `=== RUN   TestLongA
=== ATTR  TestLongA one-ms 1.5
=== ATTR  TestLongOther one-ms 9
    x_test.go:1: === ATTR  TestLongA two 3
=== ATTR  TestLongA text abc
=== ATTR  TestLongA many 1.234e+06
--- FAIL: TestLongA (0.00s)
`
	if diff := cmp.Diff(map[string]float64{"one-ms": 1.5, "many": 1234000}, attributes(printed, "TestLongA")); diff != "" {
		t.Error(diff)
	}
}

func TestAQuantileIsAValueThatWasMeasured(t *testing.T) {
	var all []float64
	for i := range 100 {
		all = append(all, float64(99-i))
	}
	for part, want := range map[float64]float64{0.5: 50, 0.99: 99, 0: 0} {
		if got := quantile(slices.Clone(all), part); got != want {
			t.Errorf("%v: %v, want %v", part, got, want)
		}
	}
	if got := quantile([]float64{-3}, 0.99); got != -3 {
		t.Errorf("of one: %v", got)
	}
}

func TestPartsOfTheNetworkAreChosenByAnExpression(t *testing.T) {
	for expression, want := range map[string][]string{
		"^n/read/curl":   {"read/curl"},
		"n/read/cat":     {"read/cat", "read/cat, 3 peers"},
		"^v/":            nil,
		"n/(join|nil)":   {"join/a new host"},
		"n/spread/three": {"spread/three daemons"},
	} {
		p := networkPlan{match: regexp.MustCompile(expression)}
		var got []string
		for _, g := range networkGroups() {
			for _, who := range g.contenders {
				if p.wants(g, who) {
					got = append(got, g.group+"/"+who)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", expression, diff)
		}
	}
}
