//go:build real

package main

import (
	"os"
	"testing"
)

// TestRealScripts runs the sessions that mount something.
func TestRealScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("these sessions mount file systems and must run as root")
	}
	scripts(t, behindOfEnv(), "testdata/real")
}
