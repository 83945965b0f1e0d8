//go:build real

package docker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/docker/dockertest"
)

// stopFile names, in a daemon's state directory, the step at which it is to kill itself. It removes it first.
const stopFile = "stop-at"

// stepping builds the program with steps that heed stopFile, which the program itself has no way to.
func stepping(t *testing.T) (bin string) {
	t.Helper()
	const step = "func (m *Manager) step(label string) error {\n"
	const stops = step + `	stop := filepath.Join(os.Getenv("VOLARY_HOME"), "` + stopFile + `")
	if at, err := os.ReadFile(stop); err == nil && string(at) == label && os.Remove(stop) == nil {
		if p, err := os.FindProcess(os.Getpid()); err == nil {
			_ = p.Kill()
			select {}
		}
	}
`
	source, err := filepath.Abs("../volume.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil || strings.Count(string(text), step) != 1 {
		t.Fatalf("the steps are not in %s: %v", source, err)
	}
	dir := t.TempDir()
	other, overlay, bin := filepath.Join(dir, "volume.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "volary")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: other}})
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{other: []byte(strings.ReplaceAll(string(text), step, stops)), overlay: replace} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay", overlay, "-o", bin, "../../cmd/volary")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// asked are what an engine is asked for, one after another, of a volume.
var asked = []string{"create", "mount", "unmount", "remove"}

// call has an engine do something with a volume, and returns its error.
func call(t *testing.T, e *dockertest.Engine, what, name string) error {
	args := map[string][]string{
		"create": {"volume", "create", "-d", dockertest.Driver, name},
		"mount": {"run", "-d", "--name", name, "--network", "none", "-v", name + ":/data", dockertest.Image,
			"sh", "-c", "echo written >/data/f; sleep 1000"},
		"unmount": {"rm", "-f", name},
		"remove":  {"volume", "rm", "-f", name},
	}[what]
	_, err := e.TryDocker(t.Context(), args...)
	return err
}

// stop is a step of a daemon while an engine asks it for something.
type stop struct{ call, label string }

// killedAt has daemons killed at steps, begins the next one each time, and wants all that was asked for to be done, at the
// latest when it is asked for again. It returns the stops that were reached.
func killedAt(t *testing.T, stops ...stop) (reached []stop) {
	bin := stepping(t)
	e := alone(t)
	e.Stop()
	e.Use(bin)
	e.Start()
	for i, at := range stops {
		name := fmt.Sprint("vol", i)
		for _, what := range asked {
			if what == at.call {
				if interrupted(t, e, at, name) {
					reached = append(reached, at)
				}
			} else if err := call(t, e, what, name); err != nil {
				t.Errorf("before or after a kill at %s: %s: %v", at, what, err)
			}
			if what == "unmount" && at.label == volume.StepLeft {
				// Nobody knows of an unmount before that: an engine that asks again does not say what for.
				e.UntilDone("the container is forgotten", func() error { return forget(t, e, name) })
			}
			isDone(e, what, name)
		}
	}
	e.UntilDone("no mount is left", func() error {
		_, err := e.Try(t.Context(), "sh", "-c", "! grep "+e.Home+"/volumes/overlays/ /proc/self/mounts")
		return err
	})
	return reached
}

// interrupted has the daemon be killed at a step while an engine does something, begins the next one, and has the engine do
// it again unless it was done by that. It reports whether the step was reached.
func interrupted(t *testing.T, e *dockertest.Engine, at stop, name string) (reached bool) {
	t.Helper()
	file := filepath.Join(e.Home, stopFile)
	if err := os.WriteFile(file, []byte(at.label), 0o600); err != nil {
		t.Fatal(err)
	}
	called := make(chan error, 1)
	go func() { called <- call(t, e, at.call, name) }()
	var err error
	e.UntilDone(fmt.Sprintf("%s is done, or the daemon is killed", at), func() error {
		if _, there := os.Lstat(file); there != nil {
			reached = true
			return nil
		}
		select {
		case err = <-called:
			reached = os.Remove(file) != nil
			called <- err
			return nil
		default:
			return errors.New("not yet")
		}
	})
	if reached {
		e.Killed()
		e.Start()
	}
	if err = <-called; err != nil && reached {
		_, _ = e.TryDocker(t.Context(), "rm", "-f", name) // it may have been made and not started
		err = call(t, e, at.call, name)
	}
	if err != nil {
		t.Errorf("killed at %s: %v", at, err)
	}
	return reached
}

// isDone waits until what an engine was asked for shows.
func isDone(e *dockertest.Engine, what, name string) {
	users := []string{"volume", "inspect", "-f", "{{.Status.users}}", name}
	switch what {
	case "create":
		e.UntilDocker(name+" is listed", func(out string) bool { return out == name }, "volume", "ls", "-q", "-f", "name="+name+"$")
	case "mount":
		e.UntilDocker(name+" is written to", func(out string) bool { return out == "written" }, "exec", name, "cat", "/data/f")
	case "unmount":
		e.UntilDocker(name+" is not mounted", func(out string) bool { return out == "<no value>" }, users...)
		e.UntilVolary(name+" is committed", func(out string) bool { return strings.TrimSpace(out) == "written" }, "cat", name+"/f")
	default:
		e.UntilDocker(name+" is gone", func(out string) bool { return out == "" }, "volume", "ls", "-q", "-f", "name="+name+"$")
	}
}

func TestADaemonThatIsKilledAtAStepLeavesTheEngineNothingUndone(t *testing.T) {
	stops := []stop{{"mount", volume.StepUsers}, {"remove", volume.StepRemove}}
	if reached := killedAt(t, stops...); !slices.Equal(reached, stops) {
		t.Errorf("of %v only %v are reached", stops, reached)
	}
}
