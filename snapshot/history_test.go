package snapshot_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// chain commits n times onto itself and returns the last commit and the CIDs of all, the oldest first.
func chain(t *testing.T, b snapshot.Blocks, n int) (*snapshot.Commit, []cid.Cid) {
	t.Helper()
	ctx := context.Background()
	var cids []cid.Cid
	var last *snapshot.Commit
	for i := range n {
		last = sample(t)
		last.Message, last.Time = fmt.Sprint(i), time.Unix(int64(i), 0).UTC()
		if err := snapshot.Extend(ctx, b, last, cids[max(0, i-1):]...); err != nil {
			t.Fatal(err)
		}
		blk, err := snapshot.EncodeCommit(last)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Put(ctx, blk); err != nil {
			t.Fatal(err)
		}
		cids = append(cids, blk.Cid())
	}
	return last, cids
}

func TestHistoryListsEveryAncestorOnce(t *testing.T) {
	b := blockstest.NewMemory()
	last, cids := chain(t, b, 300)
	if last.Sequence != 300 || len(last.Recent) > snapshot.MaxRecent {
		t.Errorf("sequence %d with %d recent ancestors", last.Sequence, len(last.Recent))
	}
	at := len(cids) - 2
	for a, err := range snapshot.History(context.Background(), b, last) {
		if err != nil {
			t.Fatal(err)
		}
		if a.CID != cids[at] || a.Sequence != uint64(at+1) || a.Time.Unix() != int64(at) {
			t.Fatalf("ancestor %d is %v", at, a)
		}
		at--
	}
	if at != -1 {
		t.Errorf("history ended before commit %d", at)
	}
}

func TestHistoryIsListedWhenTheAncestorsBlocksAreGone(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	last, _ := chain(t, b, 100)
	alone := blockstest.NewMemory()
	for older := last.Older; older.Defined(); {
		blk, err := b.Get(ctx, older)
		if err != nil {
			t.Fatal(err)
		}
		if err := alone.Put(ctx, blk); err != nil {
			t.Fatal(err)
		}
		links, err := snapshot.Links(blk)
		if err != nil {
			t.Fatal(err)
		}
		older = cid.Undef
		if len(links) > 0 {
			older = links[0]
		}
	}
	n := 0
	for _, err := range snapshot.History(ctx, alone, last) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 99 {
		t.Errorf("%d ancestors, want 99", n)
	}
}

func TestMergeListsBothBranches(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	_, left := chain(t, b, 3)
	other := sample(t)
	other.Message = "other"
	if err := snapshot.Extend(ctx, b, other, left[0]); err != nil {
		t.Fatal(err)
	}
	blk, err := snapshot.EncodeCommit(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(ctx, blk); err != nil {
		t.Fatal(err)
	}
	merge := sample(t)
	if err := snapshot.Extend(ctx, b, merge, left[2], blk.Cid()); err != nil {
		t.Fatal(err)
	}
	if merge.Sequence != 4 || len(merge.Parents) != 2 || len(merge.Recent) != 4 {
		t.Errorf("sequence %d, %d parents, %d ancestors; want 4, 2, 4", merge.Sequence, len(merge.Parents), len(merge.Recent))
	}
}

func TestAMergeOfLongBranchesListsEachAncestorOnce(t *testing.T) {
	ctx, b := context.Background(), blockstest.NewMemory()
	trunk, cids := chain(t, b, 200)
	branch := func(message string, n int) cid.Cid {
		tip := cids[len(cids)-1]
		for range n {
			c := sample(t)
			c.Message = message
			must(t, snapshot.Extend(ctx, b, c, tip))
			blk, err := snapshot.EncodeCommit(c)
			must(t, err)
			must(t, b.Put(ctx, blk))
			tip = blk.Cid()
		}
		return tip
	}
	merge := sample(t)
	must(t, snapshot.Extend(ctx, b, merge, branch("left", 150), branch("right", 90), cids[3]))
	listed, last := map[cid.Cid]bool{}, merge.Sequence
	for a, err := range snapshot.History(ctx, b, merge) {
		must(t, err)
		if listed[a.CID] || a.Sequence > last {
			t.Errorf("%s of sequence %d comes twice, or after %d", a.CID, a.Sequence, last)
		}
		listed[a.CID], last = true, a.Sequence
	}
	if len(listed) != 440 || merge.Sequence != 351 {
		t.Errorf("state %d lists %d ancestors, want 351 and 440", merge.Sequence, len(listed))
	}
	if trunk.Sequence != 200 {
		t.Errorf("the trunk is %d long", trunk.Sequence)
	}

	again := sample(t)
	must(t, snapshot.Extend(ctx, b, again, branch("left", 150), branch("right", 90)))
	chunks := map[cid.Cid]bool{}
	for c := trunk.Older; c.Defined(); c = olderOf(t, b, c) {
		chunks[c] = true
	}
	shared := 0
	for c := again.Older; c.Defined(); c = olderOf(t, b, c) {
		if chunks[c] {
			shared++
		}
	}
	if shared != len(chunks) || shared == 0 {
		t.Errorf("%d of %d chunks of the trunk are in the merge", shared, len(chunks))
	}
}

// olderOf returns the chunk before one.
func olderOf(t *testing.T, b snapshot.Blocks, c cid.Cid) cid.Cid {
	t.Helper()
	blk, err := b.Get(context.Background(), c)
	must(t, err)
	links, err := snapshot.Links(blk)
	must(t, err)
	if len(links) == 0 {
		return cid.Undef
	}
	return links[0]
}

func TestMergeBaseIsTheNewestThatBothComeFrom(t *testing.T) {
	ctx, b := t.Context(), blockstest.NewMemory()
	_, trunk := chain(t, b, 40)
	commit := func(message string, parents ...cid.Cid) cid.Cid {
		t.Helper()
		c := sample(t)
		c.Message = message
		must(t, snapshot.Extend(ctx, b, c, parents...))
		blk, err := snapshot.EncodeCommit(c)
		must(t, err)
		must(t, b.Put(ctx, blk))
		return blk.Cid()
	}
	branch := func(name string, n int, from cid.Cid) cid.Cid {
		for i := range n {
			from = commit(fmt.Sprint(name, i), from)
		}
		return from
	}
	x, y := branch("x", 200, trunk[9]), branch("y", 3, trunk[29])
	p, q := commit("p", trunk[39]), commit("q", trunk[39])
	smaller := p
	if string(q.Bytes()) < string(p.Bytes()) {
		smaller = q
	}
	for what, tc := range map[string]struct{ x, y, want cid.Cid }{
		"branches":                 {x, y, trunk[9]},
		"a branch and its trunk":   {y, trunk[39], trunk[29]},
		"one comes from the other": {x, trunk[5], trunk[5]},
		"the same":                 {x, x, x},
		"after a merge":            {commit("merge", x, y), commit("more", y), y},
		"merged both ways":         {commit("one", p, q), commit("two", q, p), smaller},
		"nothing":                  {x, commit("alone"), cid.Undef},
	} {
		for range 2 {
			if got, err := snapshot.MergeBase(ctx, b, tc.x, tc.y); err != nil || got != tc.want {
				t.Errorf("%s: %s, %v, want %s", what, got, err, tc.want)
			}
			tc.x, tc.y = tc.y, tc.x
		}
	}
	if _, err := snapshot.MergeBase(ctx, blockstest.NewMemory(), x, y); err == nil {
		t.Error("what is not there has a base")
	}
}
