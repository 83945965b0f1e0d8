package main

import (
	"context"
	"net"
	"os"
	"os/signal"
	"path/filepath"
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
func TestScripts(t *testing.T) { scripts(t, "testdata/script") }

func scripts(t *testing.T, dir string) {
	p := params()
	p.Dir = dir
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
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"cid":    cidOf,
			"served": served,
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
