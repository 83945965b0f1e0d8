package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func volumesOf(figures map[series][]float64) *volumeResults {
	return &volumeResults{sizes: quickVolumes, findings: findings{figures: figures}}
}

func TestATargetBesideTheDiskKnowsWhetherMoreIsBetter(t *testing.T) {
	for _, tc := range []struct {
		name         string
		figure       figure
		volume, ext4 []float64
		want         string
	}{
		{"speed as asked", warmRead, []float64{4.5}, []float64{5}, "reached"},
		{"too slow", warmRead, []float64{4.4}, []float64{5}, "**missed**"},
		{"time as asked", goBuild, []float64{10}, []float64{9}, "reached"},
		{"takes too long", goBuild, []float64{10.1}, []float64{9}, "**missed**"},
		{"medians count, not the best", warmRead, []float64{9, 1, 1}, []float64{5, 5, 1}, "**missed**"},
		{"no disk", warmRead, []float64{9}, nil, "not measured"},
		{"no volume", warmRead, nil, []float64{9}, "not measured"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := volumesOf(map[series][]float64{{tc.figure, volumeName}: tc.volume, {tc.figure, plainName}: tc.ext4})
			if got := r.besideDisk(tc.figure, 0.9); got.verdict != tc.want {
				t.Errorf("verdict %q (%s), want %q", got.verdict, got.measured, tc.want)
			}
		})
	}
}

func TestTargetsOfVolumesAloneAreReachedOrMissed(t *testing.T) {
	r := volumesOf(map[series][]float64{
		{mountFew, volumeName}:     {10},
		{mountMany, volumeName}:    {20},
		{mountOne, volumeName}:     {100},
		{commitMany, volumeName}:   {60},
		{commitSingle, volumeName}: {30},
		{syncFile, plainName}:      {11},

		{acknowledged, volumeName}:  {80},
		{acknowledged, clusterName}: {100},
		{replicated, clusterName}:   {2000},
	})
	for _, tc := range []struct {
		name string
		got  target
		want string
	}{
		{"below", r.below(mountMany, 100), "reached"},
		{"not below", r.below(mountOne, 100), "**missed**"},
		{"below nothing", r.below(coldWalk, 10), "not measured"},
		{"alike", r.alike("mounts", 2, mountFew, mountMany), "reached"},
		{"not alike", r.alike("mounts", 2, mountFew, mountMany, mountOne), "**missed**"},
		{"alike to nothing", r.alike("mounts", 2, mountFew, byteFew), "not measured"},
		{"twice", r.atMostTimes(commitMany, commitSingle, 2), "reached"},
		{"more than once", r.atMostTimes(commitMany, commitSingle, 1), "**missed**"},
		{"times nothing", r.atMostTimes(commitMany, commitManyNone, 1), "not measured"},
		{"below besides the disk", r.belowBesides(commitMany, syncFile, 50), "reached"},
		{"not below besides the disk", r.belowBesides(commitMany, syncFile, 49), "**missed**"},
		{"as long with a cluster", r.alikeBetween(acknowledged, 1.25), "reached"},
		{"longer with a cluster", r.alikeBetween(acknowledged, 1.24), "**missed**"},
		{"pinned in time", r.belowBy(clusterName, replicated, 2001), "reached"},
		{"pinned late", r.belowBy(clusterName, replicated, 2000), "**missed**"},
		{"pinned without a cluster", r.below(replicated, 2001), "not measured"},
		{"besides nothing", r.belowBesides(commitMany, warmFind, 50), "not measured"},
	} {
		if tc.got.verdict != tc.want {
			t.Errorf("%s: verdict %q (%s), want %q", tc.name, tc.got.verdict, tc.got.measured, tc.want)
		}
	}
}

func TestOnlyAClusterThatIsAskedForIsStarted(t *testing.T) {
	if why := cannotMount(); why != "" {
		if wantsCluster(regexp.MustCompile(".")) {
			t.Errorf("a cluster is wanted, though %s", why)
		}
		return
	}
	for text, want := range map[string]bool{".": true, "v/cluster/": true, "v/cluster/volume$": false, "^a/": false, "v/read": false} {
		if got := wantsCluster(regexp.MustCompile(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestEveryFigureHasOneRowInAGroup(t *testing.T) {
	var names []string
	for _, g := range groups() {
		names = append(names, g.name)
	}
	wantRowsInGroups(t, rows(), names)
	wantUnmeasured(t, volumesOf(nil).targets())
}

func TestThePartOfVolumesShowsWhatWasMeasuredAndWhatNot(t *testing.T) {
	r := volumesOf(map[series][]float64{
		{warmRead, volumeName}:    {4, 2, 3},
		{warmRead, plainName}:     {6},
		{coldRead, volumeName}:    {1},
		{coldRead, ipfsMountName}: {0.5},
		{coldWalk, volumeName}:    {5},
		{coldWalk, plainName}:     {10},
	})
	r.without = []string{"SQLite: not found"}
	wantReport(t, report{volumes: r}, []string{
		"| sequential read | GB/s | 3.00 (0.50) | 6.00 |\n",
		"| first sequential read | GB/s | 1.00 | 0.50 (0.50) |\n",
		"| first stat-walk | µs an entry | 5.00 (2.00) | 10.00 |\n",
		"| sequential read | volume | GB/s | 3.00 | 2.00 | 4.00 | 3 |\n",
		"Not measured: SQLite: not found\n",
		"20,000 in 20 directories",
	}, []string{"restic |", "## Programs", "first snapshot"})
}

func TestWithoutRightsTheReportSaysSo(t *testing.T) {
	r := &volumeResults{findings: findings{without: []string{"everything: mounting needs root"}}}
	wantReport(t, report{volumes: r}, []string{"Not measured: everything: mounting needs root\n"}, []string{"## Targets"})
}

func TestPartsAreChosenByAnExpression(t *testing.T) {
	for _, tc := range []struct {
		expression string
		want       []string
	}{
		{"^v/walk", []string{"walk/volume", "walk/ext4"}},
		{"^v/served/restic", []string{"served/restic"}},
		{"^a/", nil},
	} {
		p := volumePlan{match: regexp.MustCompile(tc.expression)}
		var got []string
		for _, g := range groups() {
			for _, who := range g.contenders {
				if p.wants(g, who) {
					got = append(got, g.name+"/"+who)
				}
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.expression, diff)
		}
	}
}

func TestContendersTakeTurns(t *testing.T) {
	p := volumePlan{match: regexp.MustCompile(`/(a|b|c)$`)}
	g := group{name: "g", contenders: []string{"a", "b", "left out", "c"}}
	var got []string
	err := p.inTurns(g, 3, func(who string, _ int) error {
		got = append(got, who)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "b", "c", "a", "c", "a", "b"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMountsBelowADirectoryAreFound(t *testing.T) {
	const text = `22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /b/w rw - tmpfs t rw
31 30 0:41 / /b/w/a\040dir rw shared:1 - fuse.x x rw
32 22 0:42 / /b/work rw - tmpfs t rw
`
	if diff := cmp.Diff([]string{"/b/w", "/b/w/a dir"}, mountsBelow(text, "/b/w")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAStatWalkCountsEveryEntry(t *testing.T) {
	dir := t.TempDir()
	p := volumePlan{sizes: volumeSizes{dirs: 5, files: 3, part: 2}}
	entries, err := p.makeFiles(t.Context(), manyTree, dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := statWalk(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got != entries || entries != 1+5*(3+1) {
		t.Errorf("walked %d entries, made %d", got, entries)
	}
	if err := statNames(filepath.Join(dir, partDir), p.sizes.part, p.sizes.files); err != nil {
		t.Error(err)
	}
}

func TestServersThatEndBeforeTheyAreReadyAreAnError(t *testing.T) {
	for _, name := range []string{"true", "false"} {
		if _, err := startServer(command(t.Context(), os.Environ(), name), "ready"); err == nil || !strings.Contains(err.Error(), "before it was ready") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := startServer(command(t.Context(), os.Environ(), "sh", "-c", "echo ready; exec sleep 100"), "ready")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}
