package view

import (
	"path"

	"github.com/volary/volary/snapshot/meta"
)

// A directory beside the one that is listed is looked for among so many entries: others may be in between.
const besideWithin = 256

// listAhead reads the next directory while the kernel is told of this one, if the one before it was read as well:
// whoever walks a tree takes the directories in the order they are listed in.
func (v *View) listAhead(l *listing) {
	above, ok := v.memory.listings.peek(listingKey{v.number, l.parent})
	if !ok || l == above {
		return
	}
	at := above.find(path.Base(l.path))
	before, after := above.beside(at, -1), above.beside(at, 1)
	if at < 0 || before < 0 || after < 0 || !v.memory.listings.busy(listingKey{v.number, above.at(before).id}) {
		return
	}
	next := above.at(after).id
	if v.memory.listings.busy(listingKey{v.number, next}) {
		return
	}
	v.ahead.run(func() {
		ctx, done := v.within()
		defer done()
		v.dir(ctx, next) // a failure is for who lists it to be told
	})
}

// beside returns the place of the next directory in a direction, or -1.
func (l *listing) beside(at, step int) int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i, left := at+step, besideWithin; i >= 0 && i < len(l.nodes) && left > 0; i, left = i+step, left-1 {
		if l.nodes[i].kind == meta.Dir && l.nodes[i].kindKnown {
			return i
		}
	}
	return -1
}
