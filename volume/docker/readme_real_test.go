//go:build real

package docker_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/volary/volary/volume/docker/dockertest"
)

// TestWhatTheREADMESaysOfDockerWorks runs the shell blocks of the README's section in their order, each on a host of its
// own. The daemons are started by the section.
func TestWhatTheREADMESaysOfDockerWorks(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile("(?s)\n## Docker\n(.*?)\n## ").FindString(string(readme))
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	all := dockertest.Together(t, program, "one", "another")
	if len(blocks) != len(all) {
		t.Fatalf("the section has %d blocks, for %d hosts", len(blocks), len(all))
	}
	all[0].Stop() // the section starts one
	for i, e := range all {
		e.Docker("tag", dockertest.Image, "busybox")
		if out, err := e.Try(t.Context(), "bash", "-c", fmt.Sprintf("(set -eux; %s) >out 2>&1", blocks[i][1])); err != nil {
			t.Fatalf("%s\n%v\n%s", e.Sh("cat out"), err, out)
		}
	}
	if out := all[1].Sh("cat out"); !strings.HasSuffix(out, "\nfirst\n") {
		t.Errorf("the other host's container does not see what the first one has:\n%s", out)
	}
}
