//go:build real

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryCommandOfTheREADMEWorks runs the README's shell blocks in their order in one shell, in an empty
// directory, as a newcomer would. Each `make` runs in the repository. `make test` is what runs this test; that CI
// calls it is checked instead. What is about Docker or several hosts is run where the tests have those.
func TestEveryCommandOfTheREADMEWorks(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile("(?s)\n## Several hosts\n.*?\n## Docker\n.*?\n## ").ReplaceAllString(string(readme), "\n## ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(own, -1)
	var script strings.Builder
	for _, b := range blocks {
		switch command := strings.TrimSpace(b[1]); command {
		case "make test":
			ci, err := os.ReadFile(filepath.Join(root, ".ci", "run"))
			if err != nil || !strings.Contains(string(ci), "make test") {
				t.Errorf("CI does not call %q: %v", command, err)
			}
		default:
			script.WriteString(regexp.MustCompile("(?m)^make ").ReplaceAllString(b[1], `make -C "$$ROOT" `))
		}
	}
	if !strings.Contains(script.String(), "volary snapshot") || !strings.Contains(script.String(), "demo") {
		t.Fatalf("the README's commands were not found:\n%s", script.String())
	}
	dir := t.TempDir()
	cmd := exec.Command("bash", "-euxc", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ROOT="+root, "VOLARY_HOME="+filepath.Join(dir, "state"), "CLUSTER_DIR="+filepath.Join(dir, "cluster"),
		"PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// If a command failed before the one that does so.
	down := exec.Command("make", "-C", root, "cluster-down")
	down.Env = cmd.Env
	if out, err := down.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
