package pinsettest

import (
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	Run(t, func(*testing.T) (pinset.Set, func(int) cid.Cid) { return NewMemory(), Root })
}
