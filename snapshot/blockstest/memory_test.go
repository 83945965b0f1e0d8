package blockstest

import (
	"testing"

	"github.com/volary/volary/snapshot"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	Run(t, func(*testing.T) snapshot.Blocks { return NewMemory() })
}
