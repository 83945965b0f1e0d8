package diff

import (
	"context"
	"iter"
	"strings"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// links are the paths whose leader differs between two snapshots.
type links struct {
	paths map[string]struct{}
	dirs  map[string]struct{} // all that such a path is below
}

// changedLinks reads both hardlink tables, unless they are the same node.
func changedLinks(ctx context.Context, a, b *tree.Snapshot) (links, error) {
	l := links{paths: map[string]struct{}{}, dirs: map[string]struct{}{}}
	if a.HardlinksCID() == b.HardlinksCID() {
		return l, nil
	}
	nextA, stopA := iter.Pull2(a.Hardlinks(ctx))
	defer stopA()
	nextB, stopB := iter.Pull2(b.Hardlinks(ctx))
	defer stopB()
	x, errX, okX := nextA()
	y, errY, okY := nextB()
	for okX || okY {
		if errX != nil {
			return l, errX
		}
		if errY != nil {
			return l, errY
		}
		inA := okX && (!okY || x.Path <= y.Path)
		inB := okY && (!okX || y.Path <= x.Path)
		if inA != inB || x.Leader != y.Leader {
			l.add(pathOf(inA, x, y))
		}
		if inA {
			x, errX, okX = nextA()
		}
		if inB {
			y, errY, okY = nextB()
		}
	}
	return l, nil
}

func pathOf(first bool, x, y meta.Hardlink) string {
	if first {
		return x.Path
	}
	return y.Path
}

func (l *links) add(path string) {
	l.paths[path] = struct{}{}
	for at := path; at != ""; {
		at = at[:max(strings.LastIndexByte(at, '/'), 0)]
		if _, known := l.dirs[at]; known {
			return
		}
		l.dirs[at] = struct{}{}
	}
}

func (l *links) at(path string) bool { _, is := l.paths[path]; return is }

// below reports whether a path in the directory changed, at any depth.
func (l *links) below(dir string) bool { _, is := l.dirs[dir]; return is }
