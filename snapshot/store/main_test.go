package store_test

import (
	"fmt"
	"os"
	"testing"
)

// TestMain lets the test binary be its own child: STORE_CHILD names what the child does.
func TestMain(m *testing.M) {
	what := os.Getenv("STORE_CHILD")
	if what == "" {
		os.Exit(m.Run())
	}
	if err := child(what, os.Getenv("STORE_DIR")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
