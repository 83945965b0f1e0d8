package volume_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

func (h *host) database() string { return filepath.Join(h.dir, "volumes", "volumes.db") }

// tags are the host's.
func (h *host) tags() map[string]cid.Cid {
	h.t.Helper()
	all := map[string]cid.Cid{}
	for tag, err := range h.pins.Tags(h.t.Context()) {
		h.must(err)
		all[tag.Name] = tag.Root
	}
	return all
}

// recovered wants exactly one snapshot to be recovered, of files, and returns its commit.
func (h *host) recovered(want files) *snapshot.Commit {
	h.t.Helper()
	tags := h.tags()
	if len(tags) != 1 {
		h.t.Fatalf("tags: %v", tags)
	}
	for name, root := range tags {
		if !strings.HasPrefix(name, volume.Recovered) {
			h.t.Errorf("tag %q", name)
		}
		h.wantFiles(root.String(), want)
		if status, err := h.pins.Status(h.t.Context(), root); err != nil || status.State != pinset.Pinned || status.Pins[0].Name != name {
			h.t.Errorf("%s: %+v, %v", name, status, err)
		}
		s, err := tree.Open(h.t.Context(), h.store, root)
		h.must(err)
		return s.Commit
	}
	return nil
}

// overlays are the names of what is left on the disk after a sweep.
func (h *host) overlays() (names []string) {
	h.t.Helper()
	if err := h.Sweep(h.t.Context()); err != nil && h.step == nil {
		h.t.Error(err)
	}
	found, err := os.ReadDir(filepath.Join(h.dir, "volumes", "overlays"))
	h.must(err)
	for _, e := range found {
		names = append(names, e.Name())
	}
	return names
}

// changed returns a host with a volume that has a commit with a=1, and changes a=2 and b=2 that are not committed.
func changed(t *testing.T, options map[string]string) (h *host, base volume.CID, dir string) {
	h = newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data", Options: options})
	dir = h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	h.do(&volume.Unmount{Name: "data"})
	h.must(h.Sweep(t.Context()))
	res := h.do(&volume.Mount{Name: "data"})
	h.write(filepath.Join(res.Path, "a"), "2")
	h.write(filepath.Join(res.Path, "b"), "2")
	return h, res.Volume.Base, filepath.Dir(res.Path)
}

func TestChangesOutliveTheDatabase(t *testing.T) {
	h, base, _ := changed(t, nil)
	h.close()
	h.must(os.Remove(h.database()))
	h.open()
	h.must(h.Start(t.Context()))
	c := h.recovered(files{"a": "2", "b": "2"})
	if !cmp.Equal(c.Parents, []cid.Cid{base.Cid}, cmp.Comparer(cid.Cid.Equals)) || !strings.Contains(c.Message, "data") {
		t.Errorf("recovered as %+v", c)
	}
	if left := h.overlays(); len(left) > 0 {
		t.Errorf("left on the disk: %q", left)
	}
	for name := range h.tags() {
		root := h.tags()[name]
		h.do(&volume.Create{Name: "data", From: root.String()})
		h.wantFiles("data@~2", files{"a": "1"})
	}
	h.restart()
	h.recovered(files{"a": "2", "b": "2"})
}

func TestChangesOutliveAnOlderDatabase(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	h.do(&volume.Create{Name: "data"})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "a"), "1")
	h.close()
	older, err := os.ReadFile(h.database())
	h.must(err)
	h.open()
	h.do(&volume.Unmount{Name: "data"})
	h.must(h.Sweep(t.Context()))
	h.write(filepath.Join(h.do(&volume.Mount{Name: "data"}).Path, "b"), "2")
	h.close()
	h.must(os.WriteFile(h.database(), older, 0o600))
	h.open()
	if err := h.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "are gone") {
		t.Errorf("changes that are recorded are not there: %v", err)
	}
	h.recovered(files{"a": "1", "b": "2"})
	h.refused(&volume.Mount{Name: "data", User: "other"}, os.ErrNotExist)
	h.do(&volume.Unmount{Name: "data"})
	h.do(&volume.Mount{Name: "data"})
	h.wantFiles("data", files{})
}

func TestChangesWithoutTheirBaseAreKeptAsTheyAre(t *testing.T) {
	for name, spoil := range map[string]func(h *host, dir string){
		"no note":      func(h *host, dir string) { h.must(os.Remove(filepath.Join(dir, "overlay.json"))) },
		"damaged note": func(h *host, dir string) { h.must(os.Truncate(filepath.Join(dir, "overlay.json"), 5)) },
		"base is gone": func(h *host, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, "overlay.json"))
			h.must(err)
			i, err := h.Inspect(h.t.Context(), "data")
			h.must(err)
			other := "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
			h.must(os.WriteFile(filepath.Join(dir, "overlay.json"), bytes.ReplaceAll(b, []byte(i.Base.String()), []byte(other)), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, _, dir := changed(t, nil)
			spoil(h, dir)
			h.close()
			h.must(os.Remove(h.database()))
			h.open()
			h.must(h.Start(t.Context()))
			if c := h.recovered(files{"a": "2", "b": "2"}); len(c.Parents) > 0 || !strings.Contains(c.Message, "without") {
				t.Errorf("recovered as %+v", c)
			}
			if left := h.overlays(); len(left) > 0 {
				t.Errorf("left on the disk: %q", left)
			}
		})
	}
}

func TestWhatCannotBeRecoveredStaysAndIsTold(t *testing.T) {
	h, _, dir := changed(t, nil)
	var log bytes.Buffer
	h.logger = slog.New(slog.NewTextHandler(&log, nil))
	strange := filepath.Join(filepath.Dir(dir), "strange")
	h.must(os.Mkdir(strange, 0o755))
	h.write(filepath.Join(strange, "kept"), "kept")
	h.write(filepath.Join(filepath.Dir(dir), "file"), "kept")
	newer := filepath.Join(dir, "overlay.json")
	b, err := os.ReadFile(newer)
	h.must(err)
	h.must(os.WriteFile(newer, bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1), 0o600))
	h.close()
	h.must(os.Remove(h.database()))
	h.open()
	h.must(h.Start(t.Context()))
	if got, want := h.overlays(), []string{filepath.Base(dir), "file", "strange"}; !cmp.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(strange, "kept")); err != nil || string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}
	if n := strings.Count(log.String(), "stay where they are"); n != 3 {
		t.Errorf("the log tells of %d of 3:\n%s", n, &log)
	}
}

func TestADirectoryThatWasOnlyBegunIsDeleted(t *testing.T) {
	h := newHost(t, mounttest.NewCopies())
	for _, name := range []string{"empty", "begun"} {
		h.must(os.Mkdir(filepath.Join(h.dir, "volumes", "overlays", name), 0o711))
	}
	h.write(filepath.Join(h.dir, "volumes", "overlays", "begun", ".overlay.json-123"), "{")
	h.must(h.Start(t.Context()))
	if tags, left := h.tags(), h.overlays(); len(tags) > 0 || len(left) > 0 {
		t.Errorf("tags %v, left %q", tags, left)
	}
}

func TestWhatIsLeftOfAnEndedOverlayIsNotTakenForChanges(t *testing.T) {
	h, _, dir := changed(t, nil)
	h.do(&volume.Unmount{Name: "data"})
	h.must(os.Rename(dir, dir+".ended"))
	h.must(os.Remove(filepath.Join(dir+".ended", "copy", "a")))
	h.close()
	h.must(os.Remove(h.database()))
	h.open()
	h.must(h.Start(t.Context()))
	if tags, left := h.tags(), h.overlays(); len(tags) > 0 || len(left) > 0 {
		t.Errorf("tags %v, left %q", tags, left)
	}
}

func TestNothingIsRecoveredOfWhatWasNotChanged(t *testing.T) {
	for name, options := range map[string]map[string]string{"read-only": {"readonly": "true"}, "unchanged": nil} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, mounttest.NewCopies())
			h.do(&volume.Create{Name: "data", Options: options})
			h.do(&volume.Mount{Name: "data"})
			h.close()
			h.must(os.Remove(h.database()))
			h.open()
			h.must(h.Start(t.Context()))
			if tags, left := h.tags(), h.overlays(); len(tags) > 0 || len(left) > 0 {
				t.Errorf("tags %v, left %q", tags, left)
			}
		})
	}
}

func TestChangesInUseAreRecoveredOnceTheyAreFree(t *testing.T) {
	c := mounttest.NewCopies()
	h := newHost(t, c)
	h.do(&volume.Create{Name: "data"})
	h.write(filepath.Join(h.do(&volume.Mount{Name: "data"}).Path, "a"), "1")
	c.KeepBusy(volume.ErrInUse)
	h.close()
	h.must(os.Remove(h.database()))
	h.open()
	h.must(h.Start(t.Context()))
	if tags, left := h.tags(), h.overlays(); len(tags) > 0 || len(left) != 1 {
		t.Errorf("in use: tags %v, left %q", tags, left)
	}
	c.KeepBusy(nil)
	h.restart()
	h.recovered(files{"a": "1"})
}

// TestARecoveryThatStopsAtAnyStepLosesNothing stops at each step and starts again, and wants one snapshot.
func TestARecoveryThatStopsAtAnyStepLosesNothing(t *testing.T) {
	fault := errors.New("fault")
	for _, label := range []string{volume.StepStore, volume.StepPin, volume.StepTag, volume.StepRetire, volume.StepDelete} {
		t.Run(label, func(t *testing.T) {
			h, _, _ := changed(t, nil)
			h.close()
			h.must(os.Remove(h.database()))
			h.open()
			reached := false
			h.step = func(l string) error {
				if l != label {
					return nil
				}
				reached = true
				return fault
			}
			h.must(h.Start(t.Context()))
			if left := len(h.overlays()); !reached || left != 1 {
				t.Fatalf("step taken: %v; left %q", reached, h.overlays())
			}
			h.step = nil
			h.restart()
			h.recovered(files{"a": "2", "b": "2"})
			if left := h.overlays(); len(left) > 0 {
				t.Errorf("left on the disk: %q", left)
			}
			h.restart()
			h.recovered(files{"a": "2", "b": "2"})
		})
	}
}

func TestAnOverlayOnAnotherBaseIsNotMounted(t *testing.T) {
	h, base, dir := changed(t, map[string]string{"commit": "unmount"})
	path := filepath.Join(dir, "overlay.json")
	b, err := os.ReadFile(path)
	h.must(err)
	first := h.resolve("data@1")
	h.must(os.WriteFile(path, bytes.ReplaceAll(b, []byte(base.String()), []byte(first.String())), 0o600))
	h.refused(&volume.Mount{Name: "data", User: "other"}, volume.ErrInvalid)
	// One of a version that did not note it is on what the database says.
	h.must(os.Remove(path))
	h.do(&volume.Mount{Name: "data", User: "other"})
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, b) {
		t.Errorf("noted %q, %v; before it was %q", again, err, b)
	}
}
