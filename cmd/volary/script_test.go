package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	isolate()
	testscript.Main(m, map[string]func(){
		"volary": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs the terminal sessions in testdata/script. Each has a state directory of its own.
func TestScripts(t *testing.T) { scripts(t, behindOfEnv(), "testdata/script") }

// behind is what sessions have beside their state directories; the zero value is nothing.
type behind struct{ kubo, cluster string }

// behindOfEnv lets people run the sessions with a Kubo daemon and a cluster of theirs.
func behindOfEnv() behind { return behind{os.Getenv("VOLARY_KUBO"), os.Getenv("VOLARY_CLUSTER")} }

// aboutPacks are sessions that damage or look into files of the embedded store, with what they do.
var aboutPacks = map[string]string{
	"testdata/script/lost.txtar":  "writes into a pack that holds a commit",
	"testdata/script/packs.txtar": "removes and cuts packs",
	"testdata/script/state.txtar": "writes into a pack that holds a file, and into the store's FORMAT",
	"testdata/real/lost.txtar":    "writes into packs under a mounted volume",
}

// scripts runs the sessions of directories; with something behind them, all that are not about packs.
func scripts(t *testing.T, b behind, dirs ...string) {
	p := params()
	for _, dir := range dirs {
		found, err := filepath.Glob(dir + "/*.txtar")
		if err != nil || len(found) == 0 {
			t.Fatalf("no sessions in %s: %v", dir, err)
		}
		for _, file := range found {
			if b == (behind{}) || aboutPacks[file] == "" {
				p.Files = append(p.Files, file)
			}
		}
	}
	p.Condition = func(cond string) (bool, error) {
		if cond != "cluster" {
			return false, fmt.Errorf("no condition is called %q", cond)
		}
		return b != (behind{}), nil
	}
	setup := p.Setup
	p.Setup = func(env *testscript.Env) error {
		if b != (behind{}) {
			env.Setenv("VOLARY_KUBO", b.kubo)
			env.Setenv("VOLARY_CLUSTER", b.cluster)
			env.Setenv("VOLARY_REPLICAS", "1-2")
		}
		return setup(env)
	}
	testscript.Run(t, p)
}

// params are what all sessions have; which ones there are is to be added.
func params() testscript.Params {
	return testscript.Params{
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("VOLARY_HOME", env.WorkDir+"/.state")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Defer(func() { letGo(env.WorkDir) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"cid":    cidOf,
			"served": served,
			"until":  until,
		},
	}
}

// exits CODE COMMAND... runs a command and wants that exit code. Its output can be looked at with stdout and
// stderr as that of exec.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	out := ts.MkAbs(".exits")
	script := `"$@"; echo $? >"$EXITS_FILE"`
	ts.Setenv("EXITS_FILE", out)
	err := ts.Exec("sh", append([]string{"-c", script, "sh"}, args[1:]...)...)
	ts.Check(err)
	if code := strings.TrimSpace(ts.ReadFile(out)); code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// cidOf NAME sets the environment variable NAME to what the last command printed, which must be one CID.
func cidOf(ts *testscript.TestScript, neg bool, args []string) {
	out := strings.TrimSpace(ts.ReadFile("stdout"))
	if neg || len(args) != 1 || strings.ContainsAny(out, " \n") || !strings.HasPrefix(out, "baf") {
		ts.Fatalf("usage: cid NAME, after a command that printed one CID; it printed %q", out)
	}
	ts.Setenv(args[0], out)
}

// served waits until a daemon holds the state.
func served(ts *testscript.TestScript, neg bool, args []string) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		conn, err := net.Dial("unix", filepath.Join(ts.Getenv("VOLARY_HOME"), socketName))
		if err == nil {
			conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("no daemon came up")
}

// until PATTERN COMMAND... runs a command again until it succeeds and prints what matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err := ts.Exec(args[1], args[2:]...); err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("it never printed %s, last:\n%s%s", args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
}
