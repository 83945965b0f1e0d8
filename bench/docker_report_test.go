package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func containersOf(figures map[series][]float64) *dockerResults {
	return &dockerResults{sizes: quickDocker, findings: findings{figures: figures}}
}

func TestVolumesOfContainersAreHeldAgainstTheLocalDriver(t *testing.T) {
	r := containersOf(map[series][]float64{
		{containerByte, localName}:  {400, 300, 9999},
		{containerByte, volumeName}: {1399, 0, 1399},
		{containerAll, localName}:   {400},
		{containerAll, volumeName}:  {1400},
		{pgNext, localName}:         {1000},
		{pgNext, volumeName}:        {900},
		{pgNext, fullName}:          {899},
		{hundredRead, localName}:    {9.5},
		{hundredRead, volumeName}:   {10},
		{hundredGone, localName}:    {9.4},
		{hundredGone, volumeName}:   {10},
	})
	for _, tc := range []struct {
		name string
		got  target
		want string
	}{
		{"soon enough", r.later(containerByte, 1000), "reached"},
		{"too late", r.later(containerAll, 1000), "**missed**"},
		{"later than nothing", r.later(pgFirst, 1000), "not measured"},
		{"as fast as asked", r.beside(pgNext, volumeName, 0.9), "reached"},
		{"too slow", r.beside(pgNext, fullName, 0.9), "**missed**"},
		{"takes as long as it may", r.beside(hundredRead, volumeName, 0.95), "reached"},
		{"takes too long", r.beside(hundredGone, volumeName, 0.95), "**missed**"},
		{"beside nothing", r.beside(pgFirst, volumeName, 0.9), "not measured"},
	} {
		if tc.got.verdict != tc.want {
			t.Errorf("%s: verdict %q (%s), want %q", tc.name, tc.got.verdict, tc.got.measured, tc.want)
		}
	}
}

func TestEveryFigureOfContainersHasOneRowInAGroup(t *testing.T) {
	var names []string
	for _, g := range dockerGroups() {
		names = append(names, g.group)
	}
	wantRowsInGroups(t, dockerRows(), names)
	wantUnmeasured(t, containersOf(nil).targets())
}

func TestAReportHasOnlyWhatWasMeasuredOfContainers(t *testing.T) {
	r := containersOf(map[series][]float64{
		{pgNext, localName}:  {2000},
		{pgNext, volumeName}: {1900, 2100, 2000},
	})
	r.without = []string{"rclone: not found"}
	wantReport(t, report{docker: r}, []string{
		"| pgbench, runs after that | 1/s | 2000 | 2000 (1.00) |\n",
		"| pgbench, runs after that | volume | 1/s | 2000 | 1900 | 2100 | 3 |\n",
		"Not measured: rclone: not found\n",
		"200 files in 10 directories",
	}, []string{"## Many containers", "pgbench, first run |"})
}

func TestEnginesThatAreAskedForAreStarted(t *testing.T) {
	for text, want := range map[string]int{".": 3, "^d/": 3, "d/pgbench/volume$": 1, "^a/": 0, "^n/read": 0} {
		p := dockerPlan{match: regexp.MustCompile(text)}
		if got := len(p.wanted()); got != want {
			t.Errorf("%s: %d groups, want %d", text, got, want)
		}
	}
}

func TestPartsThatAreNotAskedForAreNotWanted(t *testing.T) {
	for text, want := range map[string][3]bool{
		".": {true, true, true}, "^d/": {}, "^a/volary$": {true, false, false}, "^v/walk": {false, true, false}, "n/read/curl": {false, false, true},
	} {
		match := regexp.MustCompile(text)
		p := plan{match: match, contenders: []contender{{name: volaryName}}}
		v, n := volumePlan{match: match}, networkPlan{match: match}
		if got := [3]bool{p.wantsAny(), v.wantsAny(), n.wantsAny()}; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestInEachRoundAnotherOneIsFirst(t *testing.T) {
	p := dockerPlan{match: regexp.MustCompile(`/(a|b|c)$`), rounds: 3}
	var got []string
	p.eachTurn(dockerGroup{table: table{group: "g", contenders: []string{"a", "b", "left out", "c"}}}, func(who string, _ int) { got = append(got, who) })
	if diff := cmp.Diff([]string{"a", "b", "c", "b", "c", "a", "c", "a", "b"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatIsMadeOnAStageEndsWithIt(t *testing.T) {
	const key = "VOLARY_BENCH_STAGE_TEST"
	t.Setenv(key, "before")
	dir := filepath.Join(t.TempDir(), "stage")
	var did []string
	err := onStage(t.Context(), dir, func(s *stage) {
		s.Cleanup(func() { did = append(did, "first made, last ended") })
		s.Cleanup(func() {
			did = append(did, "ended with an error")
			s.Fatalf("cannot end")
		})
		if a, b := s.TempDir(), s.TempDir(); a == b {
			t.Errorf("two directories are one, %s", a)
		}
		s.Setenv(key, "on the stage")
		s.Errorf("goes on after %s", os.Getenv(key))
		did = append(did, "went on")
		s.must(errors.New("stops here"))
		did = append(did, "went on after Fatal")
	})
	if diff := cmp.Diff([]string{"went on", "ended with an error", "first made, last ended"}, did); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if want := "goes on after on the stage\nstops here\ncannot end"; err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if got := os.Getenv(key); got != "before" {
		t.Errorf("the environment has %q afterwards", got)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestAStageOnWhichAllWentWellHasNoError(t *testing.T) {
	if err := onStage(t.Context(), filepath.Join(t.TempDir(), "stage"), func(s *stage) { s.must(nil) }); err != nil {
		t.Error(err)
	}
}

func TestADatasetIsWrittenInPartsAndKnowsItsFiles(t *testing.T) {
	d := dataset{parts: 2, dirs: 3, files: 5, size: 100}
	dir := t.TempDir()
	if err := onStage(context.Background(), filepath.Join(t.TempDir(), "stage"), func(s *stage) {
		for part := range d.parts {
			d.write(s, dir, part)
		}
	}); err != nil {
		t.Fatal(err)
	}
	sums := map[string]bool{}
	for i := range d.all() {
		sum, err := sumOf(t.Context(), filepath.Join(dir, d.path(i)))
		if err != nil || sum != d.sum(i) {
			t.Errorf("%s: %v, sum %s, want %s", d.path(i), err, sum, d.sum(i))
		}
		sums[sum] = true
	}
	n, err := statWalk(dir)
	if want := d.all() + d.parts*(1+d.dirs); err != nil || n != want || len(sums) != d.all() || d.bytes() != 3000 {
		t.Errorf("%d entries, want %d; %d files differ; %d bytes; %v", n, want, len(sums), d.bytes(), err)
	}
}

func TestTheTimesOfAProcessAreItsOwnOrItsChildrensToo(t *testing.T) {
	const stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 100 20 3000 400 20 0 1 0 5 6 7"
	for n, want := range map[int]time.Duration{2: 1200 * time.Millisecond, 4: 35200 * time.Millisecond} {
		if got, err := statTimes(stat, n); err != nil || got != want {
			t.Errorf("%d times: %v, %v, want %v", n, got, err, want)
		}
	}
	if _, err := statTimes("7 (a) S 1 7", 2); err == nil {
		t.Error("a stat that is too short is taken")
	}
}
