package volume

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Hooks are shell commands around the reading of a commit's files. They run with the rights of the daemon.
type Hooks struct {
	Before  string        `json:"before,omitempty"` // if it fails, there is no commit
	After   string        `json:"after,omitempty"`  // runs whatever became of the commit, and does not undo it
	Timeout time.Duration `json:"timeout,omitempty"`
}

// HasHooks reports whether an operation names commands to run, which only root may ask of a daemon.
func HasHooks(op Operation) bool {
	options := map[string]string{}
	switch op := op.(type) {
	case *Commit:
		return op.Hooks != Hooks{}
	case *Create:
		options = op.Options
	case *Clone:
		options = op.Options
	case *Set:
		options = op.Options
	}
	for key := range options {
		if isHook(key) {
			return true
		}
	}
	return false
}

// isHook reports whether an option is about commands that the daemon runs.
func isHook(key string) bool { return strings.HasPrefix(key, "exec-") }

func (h Hooks) any() bool { return h.Before != "" || h.After != "" }

// or returns the hooks, those of o where there are none.
func (h Hooks) or(o Hooks) Hooks {
	if h.Before == "" {
		h.Before = o.Before
	}
	if h.After == "" {
		h.After = o.After
	}
	if h.Timeout <= 0 {
		h.Timeout = o.Timeout
	}
	return h
}

// around runs f between the hooks. The error of After is apart.
func (h Hooks) around(ctx context.Context, env []string, f func() error) (err, after error) {
	if err = h.exec(ctx, h.Before, env); err != nil {
		err = fmt.Errorf("hook before the commit: %w", err)
	} else {
		err = f()
	}
	// What Before began, such as a frozen database, After ends, also when the caller has gone.
	if after = h.exec(context.WithoutCancel(ctx), h.After, env); after != nil {
		after = fmt.Errorf("hook after the commit: %w", after)
	}
	return err, after
}

// exec runs a command and everything it starts, for at most the timeout.
func (h Hooks) exec(ctx context.Context, command string, env []string) error {
	if command == "" {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.Timeout, fmt.Errorf("took longer than %s", h.Timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Env = append(cmd.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out := new(tail)
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay): // the command is done; what it left behind has its output open
		return nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	last := strings.TrimSpace(string(*out))
	last = last[strings.LastIndexByte(last, '\n')+1:]
	if last != "" {
		return fmt.Errorf("%q: %w: %.200s", command, err, last)
	}
	return fmt.Errorf("%q: %w", command, err)
}

// tail keeps the end of what is written.
type tail []byte

const tailSize = 1 << 10

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b[max(0, len(b)-tailSize):]...)
	*t = (*t)[max(0, len(*t)-tailSize):]
	return len(b), nil
}
