//go:build real

package example_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/volary/volary/volume/docker/dockertest"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

func TestTenContainersReadADatasetByItsCID(t *testing.T) {
	t.Setenv("IMAGE", dockertest.Image)
	script, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	script += "/run.sh"
	all := dockertest.Together(t, "../../bin/volary", "alpha", "beta")
	a, b := all[0], all[1]
	a.Sh("mkdir -p set/sub && for i in $(seq 10); do seq $i 2000 >set/sub/$i; done; head -c 40000000 /dev/urandom >set/large")
	cid := strings.TrimSpace(a.Do(script, "publish", "set"))

	out := strings.Fields(b.Do(script, "read", cid, "head -n 1 /data/sub/$N"))
	if want := strings.Fields("1 2 3 4 5 6 7 8 9 10"); !slices.Equal(out, want) {
		t.Errorf("the containers read %q", out)
	}
	if here, err := strconv.Atoi(strings.Fields(b.Do("du", "-sk", b.Home+"/store/packs"))[0]); err != nil || here > 1000 {
		t.Errorf("%d KiB are on the host whose containers read a few bytes of 40 MB, %v", here, err)
	}

	got := strings.Split(strings.TrimSpace(b.Do(script, "read", cid)), "\n")
	want := strings.Split(strings.TrimSpace(a.Sh("cd set && find . -type f | xargs sha256sum | sed 's, \\./, /data/,'")), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("read:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if left := b.Docker("volume", "ls", "-q") + b.Docker("ps", "-aq"); left != "" {
		t.Errorf("left behind: %s", left)
	}
	if out, err := b.Try(t.Context(), script, "read", "nonsense"); err == nil {
		t.Errorf("a dataset that does not exist was read: %s", out)
	}
	for _, args := range [][]string{{}, {"publish"}, {"read"}, {"write", cid}} {
		if out, err := b.Try(t.Context(), append([]string{script}, args...)...); err == nil || !strings.Contains(err.Error(), "run.sh read CID") {
			t.Errorf("%q: %q, %v", args, out, err)
		}
	}
}
