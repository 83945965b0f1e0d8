package volume_test

import (
	"context"
	"testing"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

// without is a Mounter that finds no base as long as it is away.
type without struct {
	*mounttest.Copies
	away    error
	refused []string
}

func (m *without) Mount(ctx context.Context, base *tree.Snapshot, dir string, o volume.MountOptions) error {
	if m.away != nil {
		return m.away
	}
	return m.Copies.Mount(ctx, base, dir, o)
}

func (m *without) Refuse(_ context.Context, dir string) error {
	m.refused = append(m.refused, dir)
	return nil
}

func TestWhatCannotBeBroughtBackIsTriedAgain(t *testing.T) {
	for _, away := range []error{snapshot.ErrUnavailable, snapshot.ErrNotFound} {
		m := &without{Copies: mounttest.NewCopies()}
		h := newHost(t, m)
		h.do(&volume.Create{Name: "data"})
		h.do(&volume.Mount{Name: "data"})
		h.close()
		back := make(chan string, 1)
		h.started = func(i *volume.Info) { back <- i.Name }
		m.away = away
		h.open()
		if err := h.Start(t.Context()); err == nil {
			t.Error("started without the base")
		}
		if refused := len(m.refused) == 1; refused != (away == snapshot.ErrNotFound) {
			t.Errorf("%v: refused %v", away, m.refused)
		}
		if i, err := h.Inspect(t.Context(), "data"); err != nil || i.Failure == nil || i.Failure.What != volume.FailedStart {
			t.Errorf("failure is %v, %v", i.Failure, err)
		}
		m.away = nil
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { h.Run(ctx); close(ended) }()
		if name := <-back; name != "data" {
			t.Errorf("%s is back", name)
		}
		stop()
		<-ended
		if i, err := h.Inspect(t.Context(), "data"); err != nil || i.Failure != nil {
			t.Errorf("failure is %v, %v", i.Failure, err)
		}
	}
}
