package restorer

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/tree"
)

// group is one file of several names.
type group struct {
	paths  []string // in the target; what the tree does not confirm may be among them
	first  string   // the first that the walk met, which is restored like any file; empty before
	entry  tree.Entry
	intact bool // before the restore all paths were names of one file, which had no others
}

// link is a further name of a group, made when all files are there.
type link struct {
	dir   *dir
	entry tree.Entry
	group *group
}

// links is the walk's view of the hardlinks: used by one goroutine at a time.
type links struct {
	groups map[string]*group // by each path
	todo   []link
}

// loadLinks reads the groups of which at least two names are in the restored part.
func (r *run) loadLinks() error {
	byLeader := map[string]*group{}
	for l, err := range r.s.Hardlinks(r.ctx) {
		if err != nil {
			return err
		}
		g := byLeader[l.Leader]
		if g == nil {
			g = &group{}
			byLeader[l.Leader] = g
			g.add(r.base, l.Leader)
		}
		g.add(r.base, l.Path)
	}
	r.links.groups = map[string]*group{}
	for _, g := range byLeader {
		if len(g.paths) < 2 {
			continue
		}
		for _, p := range g.paths {
			r.links.groups[p] = g
		}
	}
	return nil
}

func (g *group) add(base, path string) {
	if base != "" {
		rest, below := strings.CutPrefix(path, base+"/")
		if !below {
			return
		}
		path = rest
	}
	g.paths = append(g.paths, path)
}

// join returns the group an entry is in, if it is in one, and whether it is the first of it.
func (r *run) join(path string, e tree.Entry) (*group, bool) {
	g := r.links.groups[path]
	switch {
	case g == nil:
		return nil, false
	case g.first == "":
		g.first, g.entry = path, e
		g.intact = r.isIntact(g)
		return g, true
	case tree.SameFile(g.entry, e):
		return g, false
	default:
		return nil, false
	}
}

func (r *run) isIntact(g *group) bool {
	var ino, dev uint64
	for i, p := range g.paths {
		st, err := r.stat(p)
		if err != nil || int(st.Nlink) != len(g.paths) || i > 0 && (st.Ino != ino || st.Dev != dev) {
			return false
		}
		ino, dev = st.Ino, st.Dev
	}
	return true
}

// stat looks at a path of the target without following symlinks anywhere.
func (r *run) stat(p string) (*unix.Stat_t, error) {
	fd, err := r.reopen(parent(p))
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return fstatat(fd, path.Base(p))
}

func parent(p string) string {
	dir, _ := path.Split(p)
	return strings.TrimSuffix(dir, "/")
}

// finishLinks makes the further names of all groups, and completes the directories that waited for them.
func (r *run) finishLinks() error {
	if len(r.links.todo) > 0 {
		// What a link replaces must not be gone before the content it leads to is on the disk.
		if err := r.sync(); err != nil {
			return err
		}
	}
	for _, l := range r.links.todo {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := r.finishLink(l); err != nil {
			return err
		}
	}
	for _, d := range r.parked {
		if err := r.finishParked(d); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) finishLink(l link) error {
	fd, err := r.reopen(l.dir.path)
	if err != nil {
		return r.at(l.dir, l.entry.Name, err)
	}
	defer unix.Close(fd)
	d := *l.dir // the directory itself is closed
	d.fd = fd
	t := task{entry: l.entry, exists: true}
	alone, err := r.link(&d, &t, l.group)
	if err != nil {
		return r.at(l.dir, l.entry.Name, err)
	}
	if alone {
		return r.finishAlone(&d, t)
	}
	return nil
}

// link makes an entry a name of its group's file. It is alone if that cannot be.
func (r *run) link(d *dir, t *task, g *group) (alone bool, _ error) {
	from, err := r.reopen(parent(g.first))
	if err != nil {
		return false, err
	}
	defer unix.Close(from)
	first, err := fstatat(from, path.Base(g.first))
	if err == unix.ENOENT { // it was left out
		return true, nil
	}
	if err != nil {
		return false, err
	}
	st, err := fstatat(d.fd, t.entry.Name)
	switch {
	case err == nil && st.Ino == first.Ino && st.Dev == first.Dev:
		r.count(unchanged)
		return false, nil
	case err == unix.ENOENT:
		t.exists = false
	case err != nil:
		return false, err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		if err := r.clearDir(d, t.entry.Name); err != nil {
			return false, err
		}
		t.exists = false
	}
	err = r.makeLink(d, from, path.Base(g.first), *t)
	if refused(err) || err == unix.EMLINK || err == unix.EXDEV {
		r.tally.omit(OmitHardlink, false, tree.Join(d.path, t.entry.Name))
		return true, nil
	}
	return false, err
}

// finishAlone restores an entry as a file of its own.
func (r *run) finishAlone(d *dir, t task) error { return r.restoreEntries(d, []task{t}, nil) }

func (r *run) makeLink(d *dir, from int, first string, t task) error {
	if err := r.step(StepLink); err != nil {
		return err
	}
	name, did := t.entry.Name, made
	if t.exists {
		name, did = r.tempName(), replaced
	}
	if err := retry(func() error { return unix.Linkat(from, first, d.fd, name, 0) }); err != nil {
		return err
	}
	if t.exists {
		if err := r.rename(d, name, t.entry.Name); err != nil {
			return err
		}
	}
	r.count(did)
	return nil
}

func (r *run) finishParked(d *dir) error {
	fd, err := r.reopen(d.path)
	if err != nil {
		return r.at(d, "", err)
	}
	d.fd = fd
	defer unix.Close(fd)
	return r.finish(d)
}
