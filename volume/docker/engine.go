package docker

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

type engineKey struct{}

// hidden begins the name of an engine that this process cannot see.
const hidden = "hidden-"

// Visible reports whether the containers of an engine, by the name that mounts have it by, are among the processes that this
// one can see.
func Visible(engine string) bool {
	return engine != "" && engine != unknownEngine && !strings.HasPrefix(engine, hidden)
}

// unknownEngine is who asks a server without [WithEngine].
const unknownEngine = "engine"

// WithEngine is an [http.Server]'s ConnContext: it has the driver know by which process of an engine it is asked. That says
// whose mounts are over: Plugin.Activate does not, as anybody may send it, and no engine sends it to a managed plugin.
func WithEngine(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, engineKey{}, processOf(c))
}

// engineOf names the process that sent the request that ctx is of. No other one has that name in this boot of the machine.
func engineOf(ctx context.Context) string {
	if name, known := ctx.Value(engineKey{}).(string); known {
		return name
	}
	return unknownEngine
}

func processOf(c net.Conn) string {
	pid := 0
	if s, is := c.(syscall.Conn); is {
		pid = peerOf(s)
	}
	name := ""
	if pid == 0 {
		// It is outside of this process's namespace, which an engine has made for a plugin, and ends with the engine.
		name, pid = hidden, 1
	}
	name += strconv.Itoa(pid)
	if start, err := startOf(pid); err == nil {
		name += "-" + start
	}
	return name
}

// peerOf is who connected to a unix socket (SO_PEERCRED, unix(7)), 0 if he cannot be seen.
func peerOf(c syscall.Conn) (pid int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// startOf is when a process began, in ticks since the machine was booted: proc_pid_stat(5).
func startOf(pid int) (ticks string, err error) {
	const field = 22 - 3 // after the name in parentheses, which may have spaces
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= field {
		return "", fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return string(fields[field]), nil
}
