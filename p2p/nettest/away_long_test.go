//go:build real && long

package nettest

import "testing"

func TestLongAHostThatWasAwayForAThousandHeadsCatchesUp(t *testing.T) {
	t.Parallel()
	catchUp(t, 1000, 200)
}
