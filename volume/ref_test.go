package volume_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

func TestATimeMeansTheStateAtThatTime(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"}) // an hour ago
	dir := h.do(&volume.Mount{Name: "data"}).Path
	// The clock goes on by a second, so that these are committed at 10:00:30.3, and at 23:59:59.3 of the same day.
	for i, at := range []time.Time{
		time.Date(2055, 3, 27, 10, 0, 29, 3e8, time.Local), time.Date(2055, 3, 27, 23, 59, 58, 3e8, time.Local),
	} {
		h.write(filepath.Join(dir, "a"), string(rune('1'+i)))
		h.now = at
		h.do(&volume.Commit{Name: "data"})
	}
	for ref, want := range map[string]files{
		"2055-03-27T10:00":                    {},
		"2055-03-27 10:00":                    {},
		"2055-03-27T10:00:29":                 {},
		"2055-03-27T10:00:30":                 {"a": "1"},
		"2055-03-27 10:00:30":                 {"a": "1"},
		"2055-03-27T10:00:30.2":               {},
		"2055-03-27T10:00:30.3":               {"a": "1"},
		"2055-03-27T10:01":                    {"a": "1"},
		"2055-03-27T23:59:58":                 {"a": "1"},
		"2055-03-27":                          {"a": "2"},
		"2055-03-26":                          {},
		"2055-03-28":                          {"a": "2"},
		"2055-03-27T23:59:59":                 {"a": "2"},
		utc(2055, 3, 27, 10, 0, 30, "Z"):      {"a": "1"},
		utc(2055, 3, 27, 10, 0, 29, "+00:00"): {},
	} {
		h.wantFiles("data@"+ref, want)
		h.wantFiles(volume.InLocalZone("data@"+ref), want)
		if got := volume.InLocalZone(ref); "data@"+got != volume.InLocalZone("data@"+ref) {
			t.Errorf("%s alone is %s", ref, got)
		}
	}
	if _, err := h.Resolve(t.Context(), "data@2001-01-01"); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("before there was a volume: %v", err)
	}
}

// utc spells a local time in another zone.
func utc(year, month, day, hour, minute, second int, zone string) string {
	local := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.Local)
	return local.UTC().Format("2006-01-02T15:04:05") + zone
}

func TestWhatIsNoTimeStaysAsItIs(t *testing.T) {
	for _, ref := range []string{"", "data", "data@", "data@3", "data@~1", "data@good", "3", "20551127", "2055-13-01", "a@2055-01-01@b"} {
		if got := volume.InLocalZone(ref); got != ref {
			t.Errorf("%q became %q", ref, got)
		}
	}
}

func TestANameThatIsTakenIsRefused(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.isTag = func(_ context.Context, name string) (bool, error) { return name == "tagged", nil }
	h.close()
	h.open()
	h.do(&volume.Create{Name: "data"})
	h.do(&volume.Create{Name: "gone"})
	h.do(&volume.Remove{Name: "gone"})
	for _, op := range []volume.Operation{
		&volume.Create{Name: "tagged"}, &volume.Clone{Name: "data", To: "tagged"},
		&volume.Rename{Name: "data", To: "tagged"}, &volume.Undelete{Name: "gone", As: "tagged"},
	} {
		h.refused(op, volume.ErrTaken)
		h.refused(op, volume.ErrExist)
	}
	h.refused(&volume.Create{Name: h.resolve("data").String()}, volume.ErrInvalid)
}
