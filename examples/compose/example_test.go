//go:build real

package example_test

import (
	"os"
	"strings"
	"testing"

	"github.com/volary/volary/volume/docker/dockertest"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

func TestAnApplicationServesADatasetGivenByItsCID(t *testing.T) {
	t.Setenv("IMAGE", dockertest.Image)
	script, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	script += "/run.sh"
	e := dockertest.Together(t, "../../bin/volary", "one")[0]
	e.Sh("mkdir -p set/sub && seq 1000 >set/sub/numbers && echo page >set/page")
	cid := strings.TrimSpace(e.Volary("snapshot", "set"))
	if out, err := e.Try(t.Context(), script, "up", ""); err == nil {
		t.Errorf("it was started without a dataset: %s", out)
	}
	if out, err := e.Try(t.Context(), script, "up"); err == nil || !strings.Contains(err.Error(), "run.sh up CID") {
		t.Errorf("without a CID: %q, %v", out, err)
	}
	e.Do(script, "up", cid)
	e.UntilDocker("the index is made", func(out string) bool { return out == "exited" },
		"ps", "-a", "-f", "label=com.docker.compose.service=index", "--format", "{{.State}}")
	e.UntilDone("it serves", func() error {
		_, err := e.Try(t.Context(), "sh", "-c", "busybox wget -qO- http://127.0.0.1:8080/data/page >page")
		return err
	})
	if got := e.Sh("cat page; busybox wget -qO- http://127.0.0.1:8080/data/sub/numbers | wc -l"); got != "page\n1000\n" {
		t.Errorf("served %q", got)
	}
	index := e.Sh("cd set && find . -type f | sort | xargs sha256sum")
	if got := e.Sh("busybox wget -qO- http://127.0.0.1:8080/index/sums"); got != index {
		t.Errorf("the index is %q, want %q", got, index)
	}
	e.Do(script, "down")
	e.UntilVolary("the index is committed", func(out string) bool { return out == index }, "cat", "app_index/sums")
	e.Do(script, "clear")
	e.Volary("volume", "undelete", "app_index")
	e.Docker("volume", "create", "-d", dockertest.Driver, "-o", "commit=10m", "-o", "keep=last:10", "app_index")
	e.Do(script, "up", cid)
	e.Do(script, "clear")
	if left := e.Docker("volume", "ls", "-q") + e.Docker("ps", "-aq"); left != "" {
		t.Errorf("left behind: %s", left)
	}
	e.Volary("volume", "undelete", "app_index")
}
