//go:build real

package example_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// decode reads a JSON file.
func decode(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

func TestTheKuboOfTheExampleLooksForNobody(t *testing.T) {
	repo := t.TempDir()
	env := []string{"IPFS_PATH=" + repo}
	run(t, env, "ipfs", "init", "--profile=unixfs-v1-2025")
	run(t, env, "sh", "-eu", "kubo-init.sh")
	run(t, env, "sh", "-eu", "kubo-init.sh")
	var got struct {
		Bootstrap []string
		AutoConf  struct{ Enabled bool }
		Swarm     struct{ DisableNatPortMap bool }
		Addresses struct{ Swarm []string }
	}
	decode(t, filepath.Join(repo, "config"), &got)
	if len(got.Bootstrap) != 0 || got.AutoConf.Enabled || !got.Swarm.DisableNatPortMap || !cmp.Equal(got.Addresses.Swarm, []string{"/ip4/0.0.0.0/tcp/4001"}) {
		t.Errorf("config %+v", got)
	}
}

func TestTheClusterTakesItsSettingsFromTheExample(t *testing.T) {
	text, err := os.ReadFile("cluster.env")
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			env = append(env, strings.TrimSpace(line))
		}
	}
	dir := filepath.Join(t.TempDir(), "cluster")
	run(t, env, "ipfs-cluster-service", "--config", dir, "init", "--consensus", "crdt")
	type batching struct {
		Size int    `json:"max_batch_size"`
		Age  string `json:"max_batch_age"`
	}
	var got struct {
		Cluster struct {
			Min      int    `json:"replication_factor_min"`
			Max      int    `json:"replication_factor_max"`
			Dead     bool   `json:"disable_repinning"`
			Interval string `json:"monitor_ping_interval"`
		}
		Consensus struct {
			CRDT struct {
				Trusted  []string `json:"trusted_peers"`
				Batching batching
			}
		}
		API struct {
			REST struct {
				Listen string `json:"http_listen_multiaddress"`
			} `json:"restapi"`
		}
	}
	decode(t, filepath.Join(dir, "service.json"), &got)
	c := got.Cluster
	if c.Min != 2 || c.Max != 3 || c.Dead || c.Interval != "5s" || got.Consensus.CRDT.Batching != (batching{100, "100ms"}) ||
		got.API.REST.Listen != "/ip4/0.0.0.0/tcp/9094" || !cmp.Equal(got.Consensus.CRDT.Trusted, []string{"*"}) {
		t.Errorf("configuration %+v", got)
	}
}
