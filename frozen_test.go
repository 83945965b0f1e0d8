package volary_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// frozen has the SHA-256 of every golden file of a format, as sha256sum prints and checks it.
const frozen = "docs/frozen.sha256"

// TestFormatsStayAsTheyWereFrozen guards what golden files alone do not: that somebody changes them with the code. Bytes
// that a released program wrote are read for ever; another format is another kind, with golden files of its own.
func TestFormatsStayAsTheyWereFrozen(t *testing.T) {
	want := map[string]string{}
	f, err := os.Open(frozen)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		sum, path, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			t.Fatalf("%s: %q is no line of sha256sum", frozen, lines.Text())
		}
		want[path] = sum
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	got := goldenSums(t)
	for _, path := range slices.Sorted(maps.Keys(want)) {
		switch {
		case got[path] == "":
			t.Errorf("%s is frozen, and is not there any more", path)
		case got[path] != want[path]:
			t.Errorf("%s is frozen, and has changed: what was stored or said before must stay readable\ngive the new format another kind and a golden file of its own", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if want[path] == "" {
			t.Errorf("%s is not in %s yet; once its format is meant to stay: sha256sum %s >>%s", path, frozen, path, frozen)
		}
	}
}

// goldenSums has the SHA-256 of every golden file outside of the command, whose golden files are not formats.
func goldenSums(t *testing.T) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (d.Name()[0] == '.' || path == "cmd"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Base(filepath.Dir(path)) != "golden":
			return nil
		}
		data, err := os.ReadFile(path)
		sum := sha256.Sum256(data)
		sums[path] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}
