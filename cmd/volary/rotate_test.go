package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volary/volary/namespace"
)

// terminal runs the program in this process, but for what is asked of its parts.
type terminal struct {
	t    *testing.T
	home string
}

func (s terminal) run(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != "" {
		s.t.Fatalf("volary %q: %s", args, err)
	}
	return out
}

// try runs a command in a process of its own: what one has open is closed with it.
func (s terminal) try(args ...string) (stdout, failed string) {
	s.t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(s.t.Context(), "volary", args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "VOLARY_HOME="+s.home), &stderr
	out, err := cmd.Output()
	if err != nil {
		failed = err.Error() + "\n" + stderr.String()
	}
	return strings.TrimSpace(string(out)), failed
}

// written is a state directory with volumes, one of which was removed and one renamed, and the files of it.
func written(t *testing.T) terminal {
	t.Helper()
	dir := t.TempDir()
	s := terminal{t, filepath.Join(dir, "state")}
	for _, name := range []string{"one", "two"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "f"), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		s.run("snapshot", filepath.Join(dir, name), "--tag", name)
	}
	s.run("volume", "create", "data", "--from", "one")
	s.run("volume", "rollback", "data", "two")
	s.run("volume", "create", "before", "--from", "two")
	s.run("volume", "rename", "before", "after")
	s.run("volume", "create", "gone", "--from", "one")
	s.run("volume", "rm", "gone")
	return s
}

// begin has the state go over to a token's namespace until a step fails, which is as if the process ended there.
func (s terminal) begin(token string, step func(string) error) error {
	s.t.Helper()
	h := &home{dir: s.home, config: defaultConfig(), state: stateFile{Version: homeVersion}, remote: &remote{}}
	ns, _, err := h.namespace()
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := h.openMove(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer m.close()
	if err := m.start(token, ns.ID()); err != nil {
		s.t.Fatal(err)
	}
	if err := step(stepBegun); err != nil {
		return err
	}
	_, err = m.finish(s.t.Context(), step)
	return err
}

// all is what the state says of its volumes, times and the like left out.
func (s terminal) all() string {
	s.t.Helper()
	var all []string
	for _, ref := range []string{"data", "data@1", "data@2", "after", "after@1"} {
		all = append(all, ref+": "+s.run("cat", ref+"/f")+" "+s.run("stat", ref, "--json"))
	}
	return strings.Join(append(all, s.run("volume", "log", "data"), s.run("volume", "ls", "--json"), s.run("namespace", "export")), "\n")
}

var errCrash = errors.New("crash")

func TestARotationThatStopsAnywhereIsFinishedByWhatComesNext(t *testing.T) {
	origin := written(t)
	token, err := newToken(namespace.Swarm{Mode: namespace.SwarmDerived})
	if err != nil {
		t.Fatal(err)
	}
	copied := func() terminal {
		dir := filepath.Join(t.TempDir(), "state")
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", origin.home, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return terminal{t, dir}
	}
	whole := copied()
	var labels []string
	if err := whole.begin(token, func(label string) error { labels = append(labels, label); return nil }); err != nil {
		t.Fatal(err)
	}
	want := whole.all()
	if len(labels) < 10 {
		t.Fatalf("only the steps %q", labels)
	}
	for i, label := range labels {
		s := copied()
		n := 0
		err := s.begin(token, func(string) error {
			if n++; n > i {
				return errCrash
			}
			return nil
		})
		if !errors.Is(err, errCrash) {
			t.Fatalf("at %s: %v", label, err)
		}
		if i%3 == 0 { // one that reads only says what to do
			if _, failed := s.try("volume", "ls"); !strings.Contains(failed, "volary namespace rotate") {
				t.Errorf("at %s: reading says %q", label, failed)
			}
			if out, failed := s.try("token"); out != "" || !strings.Contains(failed, "volary namespace rotate") {
				t.Errorf("at %s: the token is %q, and it says %q", label, out, failed)
			}
			s.run("namespace", "rotate")
		} else {
			s.run("gc")
		}
		if got := s.all(); got != want {
			t.Errorf("at %s, step %d: the state is\n%s\nwant\n%s", label, i, got, want)
		}
		s.run("volume", "undelete", "gone")
		s.run("verify", "data")
		for _, file := range []string{rotationFile, nextHeads} {
			if exists(filepath.Join(s.home, file)) {
				t.Errorf("at %s: %s is left over", label, file)
			}
		}
		if pins := s.run("pin", "ls"); strings.Count(pins, "\n") != strings.Count(whole.run("pin", "ls"), "\n")+1 {
			t.Errorf("at %s: pins are\n%s", label, pins) // one more, of what was brought back
		}
	}
}
