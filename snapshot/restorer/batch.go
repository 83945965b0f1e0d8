package restorer

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// Small files of one directory are handed over together: a goroutine switch for each would cost as much as
// the file.
const (
	batchEntries = 64
	batchBytes   = 1 << 20
)

// batch is some entries of one directory, none of them a directory, on their way to a worker.
type batch struct {
	r     *run
	d     *dir
	tasks []task
	bytes uint64
}

type task struct {
	entry  tree.Entry
	exists bool
	group  *group // of hardlinks, if the entry is the first of one
}

func (b *batch) add(e tree.Entry, exists bool) error {
	g, first := b.r.join(tree.Join(b.d.path, e.Name), e)
	if g != nil && !first {
		b.r.mu.Lock()
		b.d.links++
		b.r.mu.Unlock()
		b.r.links.todo = append(b.r.links.todo, link{dir: b.d, entry: e, group: g})
		return nil
	}
	b.tasks = append(b.tasks, task{entry: e, exists: exists, group: g})
	b.bytes += e.Size
	if len(b.tasks) >= batchEntries || b.bytes >= batchBytes {
		return b.flush()
	}
	return nil
}

func (b *batch) flush() error {
	if len(b.tasks) == 0 {
		return nil
	}
	full := &batch{r: b.r, d: b.d, tasks: b.tasks}
	b.tasks, b.bytes = nil, 0
	b.r.hold(b.d)
	select {
	case b.r.batches <- full:
		return nil
	case <-b.r.ctx.Done():
		_ = b.r.release(b.d) // the run has its error
		return b.r.ctx.Err()
	}
}

// work restores a batch's entries, unless the run has failed.
func (r *run) work(b *batch) {
	for _, t := range b.tasks {
		if r.ctx.Err() != nil {
			break
		}
		did, err := r.restoreEntry(b.d, t)
		if err != nil {
			r.fail(r.at(b.d, t.entry.Name, err))
			break
		}
		r.count(did)
	}
	r.fail(r.release(b.d))
}

func (r *run) restoreEntry(d *dir, t task) (outcome, error) {
	if t.exists {
		did, done, err := r.reuse(d, t)
		if done || err != nil {
			return did, err
		}
	}
	// A name that did not exist a moment ago is made by itself: no rename, and no temporary name to clean up.
	name, did := t.entry.Name, made
	if t.exists {
		name, did = r.tempName(), replaced
	}
	err := r.make(d, name, t.entry)
	if err == unix.EEXIST && !t.exists {
		// Planted meanwhile: a rename replaces it, whatever it is, without following it.
		name, did = r.tempName(), replaced
		err = r.make(d, name, t.entry)
	}
	if err == errRefused {
		return leftOut, nil
	}
	if err != nil || name == t.entry.Name {
		return did, err
	}
	return did, r.rename(d, name, t.entry.Name)
}

// make makes an entry under a name that does not exist.
func (r *run) make(d *dir, name string, e tree.Entry) error {
	if e.Type == meta.File {
		return r.makeFile(d, name, e)
	}
	return r.makeSpecial(d, name, e)
}

// rename moves a complete entry from its temporary name into place.
func (r *run) rename(d *dir, from, to string) error {
	err := r.step(StepRename)
	if err == nil {
		err = retry(func() error { return unix.Renameat(d.fd, from, d.fd, to) })
	}
	if err == unix.EISDIR {
		if err = r.clearDir(d, to); err == nil {
			err = retry(func() error { return unix.Renameat(d.fd, from, d.fd, to) })
		}
	}
	if err != nil {
		_ = unix.Unlinkat(d.fd, from, 0) // the error is the one to tell
	}
	return err
}

// clearDir removes a directory that stands where something else belongs. What is in it goes only if what the
// snapshot does not have may be removed.
func (r *run) clearDir(d *dir, name string) error {
	if err := r.step(StepRemove); err != nil {
		return err
	}
	err := retry(func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) })
	if err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	if !r.o.Delete {
		return fmt.Errorf("a directory that is not empty is in the way: %w", unix.ENOTEMPTY)
	}
	gone, err := r.removeAll(d.fd, name, tree.Join(d.path, name))
	if err == nil && !gone {
		err = fmt.Errorf("a mounted filesystem is in the way: %w", unix.EBUSY)
	}
	return err
}

// tempName is a name that no other entry of this run has.
func (r *run) tempName() string {
	return fmt.Sprintf("%s%d-%d", TempPrefix, r.pid, r.temps.Add(1))
}
