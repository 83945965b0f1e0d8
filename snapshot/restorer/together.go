package restorer

import (
	"iter"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
)

// together tells whether a task's content can be fetched with that of others. Of what exists already it is
// perhaps not needed.
func (t task) together() bool { return !t.exists && t.entry.Type == meta.File && oneBlock(t.entry) }

// waiting returns a batch and those that wait behind it, as many as make one of the usual size, if getting
// their content together is of use.
func (r *run) waiting(first *batch) []*batch {
	all := []*batch{first}
	if !r.many() {
		return all
	}
	for n := len(first.tasks); n < batchEntries; {
		select {
		case b, ok := <-r.batches:
			if !ok {
				return all
			}
			all = append(all, b)
			n += len(b.tasks)
		default:
			return all
		}
	}
	return all
}

func (r *run) many() bool {
	_, ok := r.s.Blocks().(snapshot.ManyGetter)
	return ok
}

// contents are the blocks of files that consist of one each, fetched together: one for each task that allows
// it, in their order. Without any, each is fetched when it is written.
type contents func() (blocks.Block, error, bool)

func (r *run) contents(all []*batch) (next contents, stop func()) {
	if !r.many() {
		return nil, func() {}
	}
	var cs []cid.Cid
	for _, b := range all {
		for _, t := range b.tasks {
			if t.together() {
				cs = append(cs, t.entry.CID)
			}
		}
	}
	return iter.Pull2(snapshot.GetMany(r.ctx, r.s.Blocks(), cs...))
}

// of returns the block of the next task; nil if that is to be fetched by itself.
func (next contents) of(t task) (blocks.Block, error) {
	if next == nil || !t.together() {
		return nil, nil
	}
	b, err, _ := next()
	return b, err
}
