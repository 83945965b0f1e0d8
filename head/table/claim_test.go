package table_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/volary/volary/head/table"
)

func TestATableStaysInItsNamespace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "heads.db")
	for _, round := range []string{"new", "opened again"} {
		tab, err := table.Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := tab.Claim("a"); err != nil {
				t.Errorf("%s: %v", round, err)
			}
		}
		if err := tab.Claim("b"); !errors.Is(err, table.ErrNamespace) {
			t.Errorf("%s: %v, want ErrNamespace", round, err)
		}
		if err := tab.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
