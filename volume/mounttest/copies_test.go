package mounttest_test

import (
	"testing"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounttest"
)

func TestCopies(t *testing.T) {
	mounttest.Run(t, func(*testing.T) volume.Mounter { return mounttest.NewCopies() })
}
