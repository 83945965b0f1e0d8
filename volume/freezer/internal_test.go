package freezer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/volary/volary/volume/mounts"
)

func TestAJournalIsReadOrRefusedWhole(t *testing.T) {
	boot, err := mounts.Boot()
	if err != nil {
		t.Fatal(err)
	}
	gone := t.TempDir() + "/gone"
	entry := fmt.Sprintf(`[{"path":%q,"inode":7}]`, gone)
	for text, ok := range map[string]bool{
		`{"version":1,"boot":"` + boot + `","cgroups":` + entry + `}`: true, // the cgroup is gone
		`{"version":1,"boot":"another","cgroups":` + entry + `}`:      true, // and so is all that was frozen
		`{"version":2,"boot":"` + boot + `","cgroups":` + entry + `}`: false,
		`{"version":1,"boot":"` + boot + `","cgroups":` + entry:       false,
		``: false,
	} {
		path := filepath.Join(t.TempDir(), "paused")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, Options{})
		if _, left := os.Stat(path); (err == nil) != ok || (left != nil) != ok {
			t.Errorf("%s: %v, and the journal: %v", text, err, left)
		}
	}
}

func TestCgroupsThatAreNotToBeFrozen(t *testing.T) {
	h := &hierarchy{dir: "/c", root: "/", own: "/system.slice/volary.service/main"}
	below := &hierarchy{dir: "/c", root: "/box", own: "/box/daemon"}
	for _, c := range []struct {
		h      *hierarchy
		cgroup string
		may    bool
		path   string
	}{
		{h, "/", false, ""},
		{h, "/system.slice", false, ""},
		{h, "/system.slice/volary.service/main", false, ""},
		{h, "/system.slice/volary.service/main/child", true, "/c/system.slice/volary.service/main/child"},
		{h, "/system.slice/volary.service/mainly", true, "/c/system.slice/volary.service/mainly"},
		{h, "/../other", false, ""},
		{below, "/box/data", true, "/c/data"},
		{below, "/boxes", false, ""},
		{below, "/box", false, ""},
	} {
		if why := c.h.obstacle(c.cgroup); (why == "") != c.may {
			t.Errorf("%s: %q", c.cgroup, why)
		}
		if c.may && c.h.path(c.cgroup) != c.path {
			t.Errorf("%s is at %s", c.cgroup, c.h.path(c.cgroup))
		}
	}
}

func TestAnotherCgroupOfTheSamePathIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, freezeFile)
	if err := os.WriteFile(file, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := cgroupAt(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := cgroup{c.Path, c.Inode + 1}
	if err := before.set("1"); !isGone(err) {
		t.Errorf("one that is no more: %v", err)
	}
	if frozen, err := isSet(dir); err != nil || frozen {
		t.Errorf("the one that took its place is frozen: %v, %v", frozen, err)
	}
	if err := c.set("1"); err != nil {
		t.Error(err)
	}
	if frozen, err := isSet(dir); err != nil || !frozen {
		t.Errorf("it is frozen: %v, %v", frozen, err)
	}
}

func TestALimitThatIsReachedAsThePauseEndsLeavesTheNextOneAlone(t *testing.T) {
	f, err := Open(filepath.Join(t.TempDir(), "paused"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.turn <- struct{}{}
	p := &pause{f: f}
	p.finish()
	left := []cgroup{{"/sys/fs/cgroup/left", 7}}
	f.left = left // by the pause after it
	p.expire()
	if !slices.Equal(f.left, left) || p.late {
		t.Errorf("left are %v, late: %v", f.left, p.late)
	}
}
