package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// measured makes results of one usage per second given.
func measured(seconds map[key][]float64) results {
	r := results{usages: map[key][]usage{}, limits: map[string][]usage{}}
	for k, ss := range seconds {
		for _, s := range ss {
			r.usages[k] = append(r.usages[k], usage{Durable: time.Duration(s * float64(time.Second))})
		}
	}
	return r
}

func TestATargetIsReachedOnlyAgainstTheFastestPeer(t *testing.T) {
	volary := key{"a", volaryName, firstSnapshot}
	restic := key{"a", resticName, firstSnapshot}
	kopia := key{"a", kopiaName, firstSnapshot}
	for _, tc := range []struct {
		name    string
		seconds map[key][]float64
		want    string
	}{
		{"faster than both", map[key][]float64{volary: {1}, restic: {3}, kopia: {2}}, "reached"},
		{"exactly as asked", map[key][]float64{volary: {1}, restic: {3}, kopia: {1.5}}, "reached"},
		{"faster than one of two", map[key][]float64{volary: {1}, restic: {3}, kopia: {1.4}}, "**missed**"},
		{"medians count, not the best", map[key][]float64{volary: {0.1, 1, 9}, restic: {3}, kopia: {1.4, 1.4, 100}}, "**missed**"},
		{"a peer is missing", map[key][]float64{volary: {1}, restic: {3}}, "not measured"},
		{"volary is missing", map[key][]float64{restic: {3}, kopia: {3}}, "not measured"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := measured(tc.seconds).faster(volaryName, "a", firstSnapshot, []string{resticName, kopiaName}, 1.5)
			if got.verdict != tc.want {
				t.Errorf("verdict %q (%s), want %q", got.verdict, got.measured, tc.want)
			}
		})
	}
}

func TestVolaryOnKuboIsComparedWithThePlainDaemon(t *testing.T) {
	r := measured(map[key][]float64{
		{"a", volaryName, firstSnapshot}: {1},
		{"a", onKuboName, firstSnapshot}: {3},
		{"a", daemonName, firstSnapshot}: {5},
	})
	for times, want := range map[float64]string{1.6: "reached", 2: "**missed**"} {
		if got := r.faster(onKuboName, "a", firstSnapshot, []string{daemonName}, times); got.verdict != want {
			t.Errorf("%.1f times: verdict %q (%s), want %q", times, got.verdict, got.measured, want)
		}
	}
}

func TestTheLargerLimitOfTheMachineCounts(t *testing.T) {
	for _, tc := range []struct {
		volary float64
		want   string
	}{{2.4, "reached"}, {2.6, "**missed**"}} {
		r := measured(map[key][]float64{{"b", volaryName, firstSnapshot}: {tc.volary}})
		r.limits[limitHash] = []usage{{Durable: time.Second}}
		r.limits[limitWrite] = []usage{{Durable: 2 * time.Second}}
		if got := r.withinLimit("b", firstSnapshot, 1.25); got.verdict != tc.want {
			t.Errorf("%.1f s: verdict %q, want %q", tc.volary, got.verdict, tc.want)
		}
	}
}

func TestAWrongRestoreIsNoticed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(dir string) error
		want   string // a part of the error, empty for none
		plain  string // the same, when modes and times are not compared
	}{
		{"nothing", func(string) error { return nil }, "", ""},
		{"content", func(dir string) error { return os.WriteFile(filepath.Join(dir, "d", "f"), []byte("other"), 0o644) }, "d/f", "content"},
		{"missing", func(dir string) error { return os.Remove(filepath.Join(dir, "d", "f")) }, "no such file", "no such file"},
		{"more", func(dir string) error { return os.Mkdir(filepath.Join(dir, "z"), 0o755) }, "too many", "too many"},
		{"link", func(dir string) error {
			link := filepath.Join(dir, "l")
			if err := os.Remove(link); err != nil {
				return err
			}
			return os.Symlink("elsewhere", link)
		}, "points to", "points to"},
		{"mode", func(dir string) error { return os.Chmod(filepath.Join(dir, "d", "f"), 0o600) }, "mode", ""},
		{"time", func(dir string) error {
			return os.Chtimes(filepath.Join(dir, "d", "f"), time.Time{}, time.Unix(1, 1))
		}, "time", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want, got := t.TempDir(), t.TempDir()
			for _, dir := range []string{want, got} {
				if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "d", "f"), []byte("text"), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(filepath.Join(dir, "d", "f"), time.Time{}, time.Unix(1e9, 1)); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink("d/f", filepath.Join(dir, "l")); err != nil {
					t.Fatal(err)
				}
			}
			if err := tc.change(got); err != nil {
				t.Fatal(err)
			}
			for posix, part := range map[bool]string{true: tc.want, false: tc.plain} {
				err := same(want, got, posix)
				if part == "" && err != nil || part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
					t.Errorf("posix %v: %v, want %q", posix, err, part)
				}
			}
		})
	}
}

func TestAChangeTouchesOneFileInAHundredAndIsUndone(t *testing.T) {
	dir, before := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "before")
	small := sizes{dirs: 4, files: 100}
	for _, d := range []string{dir, before} {
		if err := small.makeSmall(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	undo, err := changeOneInHundred(dir, filepath.Join(t.TempDir(), "originals"))
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	err = eachFile(before, func(path string, _ os.FileInfo) error {
		rel, err := filepath.Rel(before, path)
		if err == nil && sameContent(path, filepath.Join(dir, rel)) != nil {
			changed++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if changed != 4 {
		t.Errorf("%d of 400 files changed, want 4", changed)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if err := same(before, dir, false); err != nil {
		t.Errorf("not undone: %v", err)
	}
}
