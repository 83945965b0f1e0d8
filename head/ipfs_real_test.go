//go:build real

package head

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestRealKuboVerifiesAHead(t *testing.T) {
	h := sample(t)
	cmd := exec.Command("ipfs", "name", "inspect", "--dump=false", "--verify="+h.Volume.String())
	cmd.Env = append(os.Environ(), "IPFS_PATH="+filepath.Join(t.TempDir(), "ipfs"), "IPFS_TELEMETRY=off")
	cmd.Stdin = bytes.NewReader(h.Record)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"Valid: true", h.value(), "V2"} {
		if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
