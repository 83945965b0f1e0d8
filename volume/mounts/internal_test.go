package mounts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinesSayWhatIsMounted(t *testing.T) {
	for line, want := range map[string]Mount{
		"36 35 98:0 /mnt1 /mnt2 rw,noatime - ext3 /dev/root rw,errors=continue": {
			ID: "36", Parent: "35", Device: "98:0", Root: "/mnt1", Point: "/mnt2", Type: "ext3",
		},
		`40 36 0:41 / /a\040b\011c\012d\134e rw shared:3 master:1 propagate_from:2 - fuse.volary volary rw`: {
			ID: "40", Parent: "36", Device: "0:41", Root: "/", Point: "/a b\tc\nd\\e", Type: "fuse.volary", Shared: "3", Master: "1",
		},
		`41 36 0:42 / /x\09 rw - tmpfs none rw`: {ID: "41", Parent: "36", Device: "0:42", Root: "/", Point: `/x\09`, Type: "tmpfs"},
	} {
		got, ok := parse(line)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%s: %v (-want +got):\n%s", line, ok, diff)
		}
	}
	for _, line := range []string{"", "36 35 98:0 /mnt1", "36 35 98:0 /mnt1 /mnt2 rw shared:1", "36 35 98:0 /mnt1 /mnt2 - "} {
		if m, ok := parse(line); ok {
			t.Errorf("%q is %+v", line, m)
		}
	}
}

func TestAMountPointIsToldFromADirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"/": true, "/proc": true, dir: false, file: false} {
		if got, err := IsPoint(path); err != nil || got != want {
			t.Errorf("%s: %v, %v", path, got, err)
		}
		if _, got, err := At(path); err != nil || got != want {
			t.Errorf("at %s: %v, %v", path, got, err)
		}
	}
	if m, _, err := At("/proc"); err != nil || m.Type != "proc" {
		t.Errorf("/proc is %+v, %v", m, err)
	}
	if _, err := IsPoint(filepath.Join(dir, "none")); !os.IsNotExist(err) && err == nil {
		t.Errorf("what is not there: %v", err)
	}
}

func TestAProcessThatHasEndedSeesNothing(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // until then it is there, and has let go of its namespace
	for {
		_, err := Of(fmt.Sprint("/proc/", cmd.Process.Pid))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
