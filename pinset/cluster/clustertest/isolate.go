package clustertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	netNamespace = "/proc/thread-self/ns/net"
	isolatedIn   = "VOLARY_NETNS" // names the namespace in which a program was started again
)

// Isolate goes on in a network namespace that has nothing but loopback. It starts the calling program again in a new
// one, with the same arguments, and exits as that does; in the second program it returns at once. It is called
// first in main or TestMain, and wants root. Killing the first program kills the second.
func Isolate() {
	here, err := os.Readlink(netNamespace)
	if err == nil && os.Getenv(isolatedIn) == here {
		return
	}
	code, err := again()
	if err != nil {
		fmt.Fprintln(os.Stderr, "isolate:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// again runs the program in a new namespace.
func again() (int, error) {
	// The namespace belongs to the thread, and so does the signal that the child gets when its parent dies.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return 0, fmt.Errorf("new network namespace (root is needed): %w", err)
	}
	if err := raiseLoopback(); err != nil {
		return 0, err
	}
	here, err := os.Readlink(netNamespace)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), isolatedIn+"="+here)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// A terminal sends its signals to both; the second one decides.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// raiseLoopback sets the thread's loopback interface up.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("raise loopback: %w", err)
	}
	return nil
}
