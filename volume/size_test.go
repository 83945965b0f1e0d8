package volume_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// watching is a Mounter that enforces nothing, and says that changes take one mebibyte a file.
type watching struct{ *mounttest.Copies }

func (w watching) Space(_ context.Context, dir string) (volume.Space, error) {
	names, err := filepath.Glob(filepath.Join(w.Path(dir), "*"))
	return volume.Space{Used: uint64(len(names)) << 20}, err
}

func (w watching) Release(string) error { return nil }

func (w watching) Enforces(string) (bool, error) { return false, nil }

// logged is a log that is read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func TestASizeThatNothingEnforcesIsWatched(t *testing.T) {
	h := newHost(t, watching{mounttest.NewCopies()})
	log := new(logged)
	h.logger = slog.New(slog.NewTextHandler(log, nil))
	h.restart()
	h.do(&volume.Create{Name: "data", Options: map[string]string{"size": "2MiB", "commit": "1s", "pause": "false"}})
	dir := h.do(&volume.Mount{Name: "data"}).Path
	if i, err := h.Describe(t.Context(), "data"); err != nil || i.SizeEnforced == nil || *i.SizeEnforced {
		t.Errorf("while it is mounted it is described as %+v, %v", i, err)
	}
	if !log.has("only watched") || log.has("more than") {
		t.Errorf("after mounting the log says:\n%s", &log.text)
	}
	for _, name := range []string{"a", "b", "c"} {
		h.write(filepath.Join(dir, name), name)
	}
	i, err := h.Inspect(t.Context(), "data")
	if h.must(err); i.Size != 2<<20 || *i.SizeEnforced || *i.Used != 3<<20 {
		t.Errorf("size %d, enforced %v, used %d", i.Size, *i.SizeEnforced, *i.Used)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.Run(ctx); close(ended) }()
	h.awaits("a warning", func() bool { return log.has("more than the volume's size") && log.has(`used="3.0 MiB"`) })
	stop()
	<-ended
	h.do(&volume.Unmount{Name: "data"})
	h.wantFiles("data", files{"a": "a", "b": "b", "c": "c"})
}

func TestThatASizeIsEnforcedIsKnownBeforeAVolumeIsMounted(t *testing.T) {
	h := newHost(t, watching{mounttest.NewCopies()})
	for name, o := range map[string]map[string]string{"without": {}, "watched": {"size": "2MiB"}, "memory": {"size": "2MiB", "overlay": "tmpfs"}} {
		h.do(&volume.Create{Name: name, Options: o})
		i, err := h.Describe(t.Context(), name)
		h.must(err)
		if known := i.SizeEnforced != nil; known != (name != "without") || known && *i.SizeEnforced != (name == "memory") {
			t.Errorf("%s: %+v", name, i)
		}
	}
}
