//go:build real

package store_test

import (
	"path/filepath"
	"testing"

	"github.com/volary/volary/snapshot/disktest"
)

func TestAPowerCutAtAnyStepLosesNothingAcknowledged(t *testing.T) {
	for _, at := range stopPoints() {
		t.Run(at, func(t *testing.T) {
			d := disktest.New(t, 128<<20)
			dir := filepath.Join(d.Mount, "store")
			said := runChild(t, "STORE_CHILD=steps", "STORE_DIR="+dir, "STORE_STEP="+at, "STORE_POWER="+d.Mount)
			d.Remount(t)
			checkAcknowledged(t, dir, said)
		})
	}
}
