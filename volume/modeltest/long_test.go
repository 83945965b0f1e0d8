//go:build real && long

package modeltest_test

import (
	"fmt"
	"testing"

	"github.com/volary/volary/volume"
)

// TestLongAVolumeIsAPlainDirectory takes 100,000 steps, in volumes of all kinds.
func TestLongAVolumeIsAPlainDirectory(t *testing.T) {
	for i := range 10 {
		options := map[string]string{}
		if i%3 == 2 {
			options["lower"] = volume.LowerFull
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) { model(t, options, 10_000) })
	}
}
