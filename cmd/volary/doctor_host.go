package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	slowSync   = 50 * time.Millisecond
	syncs      = 9 // times that are measured
	littleFree = 1 << 30
	leastFree  = 64 << 20
)

// checkDisk looks at the file system of the state directory.
func (h *home) checkDisk(context.Context) []finding {
	const name = "state directory"
	var st unix.Statfs_t
	if err := unix.Statfs(h.dir, &st); err != nil {
		return []finding{fault(name, fmt.Errorf("statfs %s: %w", h.dir, err), "")}
	}
	free := st.Bavail * uint64(st.Bsize)
	limits := "without project quotas: sizes of volumes are watched, not enforced"
	if mountinfo, err := os.ReadFile("/proc/self/mountinfo"); err != nil {
		limits = "quotas not known: " + err.Error()
	} else if projectQuotas(h.dir, string(mountinfo)) {
		limits = "with project quotas"
	}
	space := found("disk space", "%s free at %s, %s", bytesText(free), h.dir, limits)
	switch {
	case free < leastFree:
		space = space.as(broken, "make room, `volary gc` frees what no snapshot needs")
	case free < littleFree:
		space = space.as(slow, "make room before it is full, `volary gc` frees what no snapshot needs")
	}
	kind := found("file system", "of type %#x", st.Type)
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC:
		kind.Detail = "ext4"
	case unix.XFS_SUPER_MAGIC:
		kind.Detail = "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		kind.Detail = "btrfs"
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		kind.Detail = "in memory (tmpfs): all is lost with the machine's power"
		kind = kind.as(slow, "move the state directory to a disk")
	case unix.OVERLAYFS_SUPER_MAGIC:
		kind.Detail = "overlay, as in a container: volumes cannot be mounted, and all may be lost with the container"
		kind = kind.as(slow, "give the state directory a volume of its own")
	case unix.NFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		kind.Detail = "on a network"
		kind = kind.as(slow, "move the state directory to a local disk")
	}
	return []finding{space, kind, h.checkSync()}
}

// projectQuotas reports whether the file system with dir is mounted with them, by the lines of proc(5)'s mountinfo.
func projectQuotas(dir, mountinfo string) bool {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return false
	}
	device := fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[2] != device {
			continue
		}
		options := strings.Split(fields[len(fields)-1], ",")
		if slices.Contains(options, "prjquota") || slices.Contains(options, "pquota") {
			return true
		}
	}
	return false
}

// checkSync measures how long a durable write takes.
func (h *home) checkSync() finding {
	const name = "durable writes"
	f, err := os.CreateTemp(h.dir, ".doctor-")
	if errors.Is(err, fs.ErrPermission) {
		return found(name, "not measured: %s is not this user's to write", h.dir)
	}
	if err != nil {
		return fault(name, err, "see whether the disk is full or mounted read-only")
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var times []time.Duration
	for range syncs {
		begin := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return fault(name, err, "see whether the disk is full")
		}
		if err := f.Sync(); err != nil {
			return fault(name, err, "see what the kernel's log says of this disk")
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	median := times[len(times)/2]
	r := found(name, "%s in the middle, %s at worst", round(median), round(times[len(times)-1]))
	if median > slowSync {
		return r.as(slow, "every commit waits for some of them: use a faster disk, or find out what else keeps it busy")
	}
	return r
}

// checkKernel looks for what mounts need that outlive a daemon.
func checkKernel(context.Context) []finding {
	const name = "kernel"
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return []finding{fault(name, err, "")}
	}
	return []finding{kernelFinding(name, unix.ByteSliceToString(u.Release[:]))}
}

// kernelFinding judges a release. FUSE_NOTIFY_RESEND came with Linux 6.9.
func kernelFinding(name, release string) finding {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return found(name, "Linux %s, which says no version", release).as(slow, "use Linux 6.9 or newer")
	}
	r := found(name, "Linux %s", release)
	if major < 6 || major == 6 && minor < 9 {
		r.Detail += ": reads that are under way when a mount changes hands are not sent again"
		return r.as(slow, "use Linux 6.9 or newer")
	}
	return r
}

// checkFileSystems looks for those that a mounted volume is made of.
func checkFileSystems(context.Context) []finding {
	list, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return []finding{fault("file systems", err, "mount /proc")}
	}
	var u unix.Utsname
	_ = unix.Uname(&u) // without a release no module is found
	modules, _ := os.ReadFile("/lib/modules/" + unix.ByteSliceToString(u.Release[:]) + "/modules.dep")
	var missing []string
	for name, module := range map[string]string{"fuse": "/fuse.ko", "overlay": "/overlay.ko"} {
		if !slices.Contains(strings.Fields(string(list)), name) && !strings.Contains(string(modules), module) {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		f := found("file systems", "the kernel lacks %s: volumes cannot be mounted", strings.Join(missing, " and "))
		return []finding{f.as(broken, "use a kernel that has them")}
	}
	f := found("file systems", "fuse and overlay are there")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		f.Detail = "there is no /dev/fuse: volumes cannot be mounted"
		f = f.as(broken, "run `modprobe fuse`, or give the container that device")
	}
	return []finding{f}
}

// checkCgroups looks for what freezes programs while their files are read.
func checkCgroups(context.Context) []finding {
	var st unix.Statfs_t
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if err := unix.Statfs(dir, &st); err == nil && int64(st.Type) == unix.CGROUP2_SUPER_MAGIC {
			return []finding{found("cgroups", "version 2 at %s", dir)}
		}
	}
	f := found("cgroups", "no version 2: commits cannot pause what writes")
	return []finding{f.as(slow, "boot with systemd.unified_cgroup_hierarchy=1")}
}
