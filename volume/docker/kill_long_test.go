//go:build real && long

package docker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/docker/dockertest"
)

func TestLongNothingIsStuckOrLostWhateverIsKilled(t *testing.T) { killed(t, 200) }

// TestLongAnUnmountThatTakesTooLongIsDoneByTheNextDaemon has the engine get its answer, after 50 s.
func TestLongAnUnmountThatTakesTooLongIsDoneByTheNextDaemon(t *testing.T) {
	unmountedOnce(t, func(e *dockertest.Engine, removed <-chan error) {
		if err := <-removed; err != nil {
			t.Error(err)
		}
		e.Kill()
	}, func(*dockertest.Engine) {})
}

// TestLongADaemonThatIsKilledAtAnyStepLeavesTheEngineNothingUndone tries each step while an engine asks for anything. Which are
// reached then is said: an engine's container leaves a volume before it is unmounted, and directories are deleted later on.
func TestLongADaemonThatIsKilledAtAnyStepLeavesTheEngineNothingUndone(t *testing.T) {
	var stops []stop
	for _, label := range []string{volume.StepOverlay, volume.StepMount, volume.StepUsers, volume.StepLeft, volume.StepImport,
		volume.StepStore, volume.StepPin, volume.StepHead, volume.StepUnmount, volume.StepRetire, volume.StepDelete,
		volume.StepRemove} {
		for _, what := range asked {
			stops = append(stops, stop{what, label})
		}
	}
	reached := killedAt(t, stops...)
	t.Logf("%d of %d reached: %v", len(reached), len(stops), reached)
	for _, want := range []stop{
		{"create", volume.StepStore}, {"create", volume.StepPin},
		{"mount", volume.StepOverlay}, {"mount", volume.StepMount}, {"mount", volume.StepUsers},
		{"unmount", volume.StepLeft}, {"unmount", volume.StepImport}, {"unmount", volume.StepHead}, {"unmount", volume.StepRetire},
		{"remove", volume.StepRemove},
	} {
		if !slices.Contains(reached, want) {
			t.Errorf("%v is not reached", want)
		}
	}
}

// TestLongAContainerThatEndedWithoutTheDaemonIsForgotten waits for as long as an engine may take to begin a container.
func TestLongAContainerThatEndedWithoutTheDaemonIsForgotten(t *testing.T) {
	e := alone(t)
	create(e, "unheard")
	create(e, "running")
	e.Docker("run", "-d", "--name", "short", "--network", "none", "-v", "unheard:/v", dockertest.Image, "sh", "-c", "echo last >/v/f; sleep 1000")
	e.Docker("run", "-d", "--name", "long", "--network", "none", "-v", "running:/v", dockertest.Image, "sh", "-c", "echo first >/v/f; sleep 1000")
	for _, name := range []string{"short", "long"} {
		e.UntilDocker("it has written", func(out string) bool { return out != "" }, "exec", name, "cat", "/v/f")
	}
	e.Kill()
	e.Docker("kill", "short")
	_, _ = e.TryDocker(t.Context(), "rm", "-f", "short")
	e.Start()
	time.Sleep(volume.DefaultForgotten)
	e.UntilVolary("what it wrote last is committed", func(out string) bool { return strings.TrimSpace(out) == "last" }, "cat", "unheard/f")
	e.Docker("volume", "rm", "unheard")
	wantHas(t, "users of a volume that is used", e.Docker("volume", "inspect", "-f", "{{.Status.users}}", "running"), "docker:")
}
