//go:build real

package overlay_test

import (
	"testing"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/mounttest"
	"github.com/volary/volary/volume/overlay"
)

func TestRealOverlay(t *testing.T) {
	for name, full := range map[string]bool{"lazy": false, "full": true} {
		t.Run(name, func(t *testing.T) {
			mounttest.RunKernel(t, full, func(*testing.T) volume.Mounter { return overlay.New(holder.NewLower(holder.LowerOptions{})) })
		})
	}
}
