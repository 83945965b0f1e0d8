package mounttest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
)

// inUse fails unless a mount cannot be ended, for a reason that names something.
func (x *mount) inUse(named string) {
	x.Helper()
	if err := x.m.Unmount(x.Context(), x.dir); !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), named) {
		x.Errorf("unmounted: %v, which does not name %s", err, named)
	}
}

func testSecondPlace(x *mount) {
	for _, o := range []volume.MountOptions{{}, {ReadOnly: true}} {
		x.dir = x.TempDir()
		x.mount(o)
		other := x.TempDir()
		x.must(unix.Mount(x.m.Path(x.dir), other, "", unix.MS_BIND, ""))
		x.inUse(other)
		if _, err := os.Stat(x.at("dir/b")); err != nil {
			x.Errorf("it is gone from where it was: %v", err)
		}
		x.must(unix.Unmount(other, 0))
		x.unmount()
	}
}

func testOtherNamespace(x *mount) {
	x.mount(volume.MountOptions{})
	// Not those of other tests, which would be in use, too.
	const onlyThis = `while read -r _ at type _; do
		case $type in overlay|fuse.*) test "$at" = "$0" || umount -l "$at" ;; esac
	done </proc/self/mounts
	exec cat`
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", onlyThis, x.m.Path(x.dir))
	in, err := cmd.StdinPipe()
	x.must(err)
	out, err := cmd.StdoutPipe()
	x.must(err)
	x.must(cmd.Start())
	_, err = io.WriteString(in, "ready\n")
	x.must(err)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		x.Errorf("the process said %q, %v", line, err)
	}
	x.inUse(fmt.Sprintf("cat (%d)", cmd.Process.Pid))
	x.must(in.Close())
	x.must(cmd.Wait())
	x.unmount()
}

// testOutOfSight is for a file that is open in a mount which nobody can find any more.
func testOutOfSight(x *mount) {
	x.mount(volume.MountOptions{})
	other := x.TempDir()
	x.must(unix.Mount(x.m.Path(x.dir), other, "", unix.MS_BIND, ""))
	f, err := os.OpenFile(other+"/a", os.O_WRONLY|os.O_APPEND, 0)
	x.must(err)
	defer f.Close()
	x.must(unix.Unmount(other, unix.MNT_DETACH))
	x.inUse("")
	x.inUse("")
	if err := x.m.Mount(x.Context(), x.base, x.dir, x.o); err != nil && !errors.Is(err, volume.ErrInUse) {
		x.Errorf("mounted again: %v", err)
	}
	_, err = f.WriteString(", late")
	x.must(err)
	x.wantFiles(x.snapshot(), baseFiles(map[string]string{"a": "data of a, late"}))
	x.must(f.Close())
	x.unmount()
	x.mount(volume.MountOptions{})
	x.wantFiles(x.snapshot(), baseFiles(map[string]string{"a": "data of a, late"}))
	x.unmount()
}
