// Package disktest gives tests a disk whose power they can cut. Start with [New]: an ext4 filesystem of its own
// in a file, mounted as long as the test lasts. [Cut] ends it as a power cut does, from any process;
// [Disk.Remount] is what the machine does when the power is back. Tests that use it must run as root.
//
// What the filesystem had not written when the power went is lost. What it had written counts as being on the
// disk: a disk that loses what it was told to flush is not imitated.
package disktest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a filesystem in a file. It must be made by New.
type Disk struct {
	Mount   string // the directory where it is mounted
	image   string
	options []string
}

// New makes a filesystem of size bytes and mounts it, with the given options of mount(8) beside the usual.
func New(t testing.TB, size int64, options ...string) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a filesystem of its own and must run as root")
	}
	dir := t.TempDir()
	d := &Disk{Mount: filepath.Join(dir, "mount"), image: filepath.Join(dir, "image"), options: options}
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.Mount, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", d.image)
	d.mount(t)
	t.Cleanup(func() { command(t, "umount", d.Mount) })
	return d
}

// mount takes a loop device that nobody has. The last one's may still be there: a mount namespace that somebody
// made meanwhile has a copy of the mount, and mount(8) would give that one again.
func (d *Disk) mount(t testing.TB, options ...string) {
	t.Helper()
	device := strings.TrimSpace(command(t, "losetup", "--find", "--show", d.image))
	all := append(slices.Clone(d.options), options...)
	if len(all) == 0 {
		all = []string{"defaults"}
	}
	command(t, "mount", "-t", "ext4", "-o", strings.Join(all, ","), device, d.Mount)
	// It goes when it is not mounted any more.
	command(t, "losetup", "--detach", device)
}

// Remount reads the disk anew, and replays its journal if its power was cut. The options are for this time only.
// Nothing may be open on it.
func (d *Disk) Remount(t testing.TB, options ...string) {
	t.Helper()
	// What another namespace still has mounted must not write any more.
	if err := Cut(d.Mount, sync); err != nil {
		t.Fatal(err)
	}
	command(t, "umount", d.Mount)
	d.mount(t, options...)
}

// Log says what becomes of the metadata that a filesystem holds in memory when the power is cut.
type Log uint32

// As in the kernel's EXT4_GOING_FLAGS. With LogFlush the changes of names and sizes reach the disk and contents
// do not, which is the worst that can become of what is not synced.
const (
	sync       Log = 0 // and everything else is written, too
	LogFlush   Log = 1
	NoLogFlush Log = 2
)

// Cut takes the power from the ext4 filesystem mounted at mount (EXT4_IOC_SHUTDOWN): whatever is done to it from
// then on fails, and what it had not written is lost.
func Cut(mount string, log Log) error {
	fd, err := unix.Open(mount, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cut the power of %s: %w", mount, err)
	}
	defer unix.Close(fd)
	const shutdown = 0x8004587d // _IOR('X', 125, __u32)
	if err := unix.IoctlSetPointerInt(fd, shutdown, int(log)); err != nil {
		return fmt.Errorf("cut the power of %s: %w", mount, err)
	}
	return nil
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
