//go:build real

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// letGo ends what a session that failed has left below a directory: daemons and mounts. A mount that nobody serves is held
// open by its holder: looking at it would wait for ever.
func letGo(dir string) {
	left := mountsBelow(dir)
	for _, pid := range servingBelow(dir) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, m := range slices.Backward(left) {
		_ = unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
}

func mountsBelow(dir string) []string {
	text, _ := os.ReadFile("/proc/self/mounts")
	var all []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			all = append(all, f[1])
		}
	}
	return all
}

// servingBelow are the daemons and holders of states in a directory.
func servingBelow(dir string) []int {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, p := range procs {
		exe, _ := os.Readlink(p + "/exe")
		args, _ := os.ReadFile(p + "/cmdline")
		env, _ := os.ReadFile(p + "/environ")
		if filepath.Base(exe) != "volary" || !bytes.Contains(append(args, env...), []byte(dir+"/")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
