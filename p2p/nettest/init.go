package nettest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// hostName is set for a program that is the first process of a host.
const hostName = "VOLARY_NETTEST_HOST"

const ready = "ready\n"

// Main is called first in TestMain: in the program that New starts again for each host it does not return.
func Main() {
	name := os.Getenv(hostName)
	if name == "" {
		return
	}
	if err := beHost(name); err != nil {
		fmt.Fprintf(os.Stderr, "host %s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// beHost is the first process of a host: with it all others end, and the namespaces.
func beHost(name string) error {
	if os.Getpid() != 1 {
		return errors.New("this is not the first process of a host")
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	if err := ownMounts(); err != nil {
		return err
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			for pid := 1; pid > 0; {
				pid, _ = unix.Wait4(-1, nil, unix.WNOHANG, nil)
			}
		}
	}()
	if _, err := io.WriteString(os.Stdout, ready); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin) // it ends with the program that made the host
	return err
}

// ownMounts parts this host's mounts from others', lets go of those that others are using, and shows the host its own
// processes.
func ownMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("have mounts of its own: %w", err)
	}
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 2 && f[1] != "/" && (f[2] == "overlay" || f[2] == "fuse" || strings.HasPrefix(f[2], "fuse.")) {
			_ = unix.Unmount(f[1], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}
