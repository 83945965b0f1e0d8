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
	mounttest.RunKernel(t, func(*testing.T) volume.Mounter { return overlay.New(holder.NewLower(holder.LowerOptions{})) })
}
