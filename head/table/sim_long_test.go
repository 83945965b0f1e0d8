//go:build long

package table_test

import (
	"math/rand/v2"
	"testing"
)

func TestLongSimulatedNamespacesAgree(t *testing.T) { simulateMany(t, rand.Uint64(), 5_000) }
