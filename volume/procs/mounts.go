package procs

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume/mounts"
)

// Mount is a mount of a device, and a process that sees it.
type Mount struct {
	Point string // where the process sees it
	By    Process
}

func (m Mount) String() string { return fmt.Sprintf("%s of %s", quoted(m.Point), m.By) }

// quoted keeps a path on one line.
func quoted(path string) string {
	if q := strconv.Quote(path); q != `"`+path+`"` {
		return q
	}
	return path
}

// Staying returns the mounts of what a mount shows, or of a part of it, that would be left after it is unmounted,
// and some others with it: further ones of the caller's namespace, and those of other namespaces with processes in
// them, unless unmounting reaches them (mount_namespaces(7)). Like that of [Holding], the error may come with
// those that were found.
func Staying(mount string, others ...string) ([]Mount, error) {
	going := map[string]bool{}
	for _, p := range others {
		id, _, err := identifyMount(p)
		if err != nil {
			return nil, fmt.Errorf("look for mounts: stat %s: %w", p, err)
		}
		going[id] = true
	}
	id, device, err := identifyMount(mount)
	if err != nil {
		return nil, fmt.Errorf("look for mounts: stat %s: %w", mount, err)
	}
	going[id] = true
	t := table{device: device, seen: map[view]bool{}, mounts: map[string]entry{}, master: map[string]string{}}
	_, err = find(func(proc string) (bool, error) { return false, t.read(proc) })
	var staying []Mount
	root := strings.TrimSuffix(t.mounts[id].Root, "/") + "/"
	for id, m := range t.mounts {
		if strings.HasPrefix(m.Root+"/", root) && !going[id] && !t.follows(m, going) {
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.pid))
			staying = append(staying, Mount{m.Point, Process{m.pid, strings.TrimSpace(string(comm))}})
		}
	}
	slices.SortFunc(staying, func(a, b Mount) int { return cmp.Or(cmp.Compare(a.Point, b.Point), cmp.Compare(a.By.PID, b.By.PID)) })
	return staying, err
}

// identifyMount returns the ID and the device of the mount at a path, as mountinfo spells them.
func identifyMount(p string) (id, device string, err error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, p, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return "", "", err
	}
	return fmt.Sprint(st.Mnt_id), fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor), nil
}

// entry is a mount of a device.
type entry struct {
	mounts.Mount
	pid   int    // who sees it
	on    string // the peer group of its parent, or else the one the parent follows
	peers bool   // whether on is a group that the parent belongs to
	place string // what it is mounted on, whatever the path to it is
}

// table has the mounts of a device in all views.
type table struct {
	device string

	mu     sync.Mutex
	seen   map[view]bool
	mounts map[string]entry  // by their ID, which is that of one mount in one namespace
	master map[string]string // of a peer group the one that it follows
}

// read adds what a process sees.
func (t *table) read(proc string) error {
	w, err := viewOf(proc)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[w] {
		return nil
	}
	all, err := mounts.Of(proc)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(path.Base(proc))
	if err != nil {
		return err
	}
	t.seen[w] = true
	byID := map[string]mounts.Mount{}
	for _, m := range all {
		byID[m.ID] = m
		if m.Shared != "" && m.Master != "" {
			t.master[m.Shared] = m.Master
		}
	}
	for _, m := range all {
		if m.Device != t.device {
			continue
		}
		e := entry{Mount: m, pid: pid}
		if p, ok := byID[m.Parent]; ok && m.ID != m.Parent {
			e.on, e.peers = cmp.Or(p.Shared, p.Master), p.Shared != ""
			e.place = p.Device + " " + path.Join(p.Root, strings.TrimPrefix(m.Point, p.Point))
		}
		if old, known := t.mounts[m.ID]; !known || old.place == "" {
			t.mounts[m.ID] = e
		}
	}
	return nil
}

// follows reports whether a mount goes with one of those that are unmounted: whether it is at the same place of a
// mount that gets its events from theirs.
func (t *table) follows(m entry, going map[string]bool) bool {
	for id := range going {
		ours, ok := t.mounts[id]
		if !ok || !ours.peers || ours.place != m.place {
			continue
		}
		for group, hops := m.on, 0; group != "" && hops <= len(t.master); group, hops = t.master[group], hops+1 {
			if group == ours.on {
				return true
			}
		}
	}
	return false
}
