package restorer

import (
	"fmt"

	blocks "github.com/ipfs/go-block-format"
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
	// content is that of a file of one block, if it was fetched together with those of others.
	content blocks.Block
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

// work restores the batches' entries, until there are no more of them or the run has failed.
func (r *run) work() {
	for first := range r.batches {
		together := r.waiting(first)
		content, stop := r.contents(together)
		for _, b := range together {
			r.fail(r.restoreEntries(b.d, b.tasks, content))
			r.fail(r.release(b.d))
		}
		stop()
	}
}

// move is a file that is complete under a temporary name.
type move struct {
	from, to string
}

// restoreEntries restores entries of one directory. New files take the place of old ones together, once their
// content is on the disk: after a power cut a file that was only renamed may be empty. Syncing the filesystem
// once for all of them costs less than syncing each.
func (r *run) restoreEntries(d *dir, tasks []task, content contents) error {
	var moves []move
	var failed error
	for _, t := range tasks {
		if failed = r.ctx.Err(); failed != nil {
			break
		}
		if t.content, failed = content.of(t); failed != nil {
			failed = r.at(d, t.entry.Name, failed)
			break
		}
		did, temp, err := r.restoreEntry(d, t)
		if err != nil {
			failed = r.at(d, t.entry.Name, err)
			break
		}
		if temp == "" {
			r.count(did)
		} else {
			moves = append(moves, move{temp, t.entry.Name})
		}
	}
	if len(moves) > 0 && failed == nil {
		failed = r.syncContent(d)
	}
	for _, m := range moves {
		if failed != nil {
			_ = unix.Unlinkat(d.fd, m.from, 0) // the error is the one to tell
			continue
		}
		if err := r.rename(d, m.from, m.to); err != nil {
			failed = r.at(d, m.to, err)
			continue
		}
		r.count(replaced)
	}
	return failed
}

// syncContent brings to the disk what was written to the filesystem a directory is on.
func (r *run) syncContent(d *dir) error {
	err := r.step(StepSync)
	if err == nil {
		err = unix.Syncfs(d.fd)
	}
	if err != nil {
		return r.at(d, "", fmt.Errorf("sync its filesystem: %w", err))
	}
	return nil
}

// restoreEntry restores an entry, or a file that is to replace what is there under the temporary name that it
// returns.
func (r *run) restoreEntry(d *dir, t task) (did outcome, temp string, _ error) {
	if t.exists {
		did, done, err := r.reuse(d, t)
		if done || err != nil {
			return did, "", err
		}
	}
	// A name that did not exist a moment ago is made by itself: no rename, and no temporary name to clean up.
	name := t.entry.Name
	did = made
	if t.exists {
		name, did = r.tempName(), replaced
	}
	err := r.make(d, name, t)
	if err == unix.EEXIST && !t.exists {
		// Planted meanwhile: a rename replaces it, whatever it is, without following it.
		name, did = r.tempName(), replaced
		err = r.make(d, name, t)
	}
	switch {
	case err == errRefused:
		return leftOut, "", nil
	case err != nil || name == t.entry.Name:
		return did, "", err
	case t.entry.Type == meta.File:
		return did, name, nil
	default:
		return did, "", r.rename(d, name, t.entry.Name)
	}
}

// make makes an entry under a name that does not exist.
func (r *run) make(d *dir, name string, t task) error {
	if t.entry.Type == meta.File {
		return r.makeFile(d, name, t)
	}
	return r.makeSpecial(d, name, t.entry)
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
