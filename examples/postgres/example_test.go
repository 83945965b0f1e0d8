//go:build real

package example_test

import (
	"os"
	"strings"
	"testing"

	"github.com/volary/volary/volume/docker/dockertest"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

func has(t *testing.T, out string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(out, p) {
			t.Errorf("%q does not have %q", out, p)
		}
	}
}

func TestADatabaseIsCommittedClonedRolledBackAndMoved(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	run := dir + "/run.sh"
	all := dockertest.Together(t, "../../bin/volary", "alpha", "beta")
	a, b := all[0], all[1]
	for _, e := range all {
		e.Do(dir + "/image.sh")
	}
	has(t, a.Do(run), "after a mistake: 0 rows", "in the copy: 1001 rows, in the database: 0 rows", "rolled back: 1000 rows")
	has(t, a.Volary("stat", "db@good"), "hook")

	// What is written now is in the next state, made when the database stops, and it is that which the other host starts.
	a.Docker("exec", "db", "psql", "-qU", "postgres", "-c", "INSERT INTO notes SELECT generate_series(1, 500)")
	a.Do(run, "stop")
	b.UntilDocker("the volume is known", func(out string) bool { return out == "db" }, "volume", "ls", "-q", "-f", "name=db$")
	head := a.Docker("volume", "inspect", "-f", "{{.Status.head}}", "db")
	b.UntilDocker("its state is known", func(out string) bool { return out == head }, "volume", "inspect", "-f", "{{.Status.head}}", "db")
	has(t, b.Do(run, "here"), "1500 rows")

	// A commit while it runs there, by the same hook; the log of the database says that there was a checkpoint for it.
	b.Docker("exec", "db", "psql", "-qU", "postgres", "-c", "INSERT INTO notes VALUES (1)")
	b.Volary("volume", "commit", "db")
	has(t, b.Sh("docker logs db 2>&1"), "checkpoint starting: immediate force", "checkpoint complete")
	has(t, b.Docker("inspect", "-f", "{{.State.Status}}", "db"), "running")
	b.Do(run, "stop")
	a.UntilDocker("nobody has it mounted", func(out string) bool { return !strings.Contains(out, "beta") }, "volume", "inspect", "-f", "{{.Status}}", "db")
	a.Do(run, "clear")
	if left := a.Docker("volume", "ls", "-q") + a.Docker("ps", "-aq"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
