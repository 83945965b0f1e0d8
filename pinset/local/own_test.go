package local_test

import (
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset/pinsettest"
)

func TestMarkCountsForWhoMadeItAndRootsForEverybody(t *testing.T) {
	dir := t.TempDir()
	st, set := open(t, dir)
	ctx := t.Context()
	byRoot, byUser, asBefore := pinsettest.Root(1), pinsettest.Root(2), pinsettest.Root(3)
	for c, uid := range map[cid.Cid]uint32{byRoot: 0, byUser: 1000} {
		if err := set.MarkOwnBy(ctx, c, uid); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.MarkOwn(ctx, asBefore); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, set = open(t, dir)
	for _, want := range []struct {
		commit cid.Cid
		uid    uint32
		own    bool
	}{
		{byRoot, 0, true}, {byRoot, 1000, true}, {byUser, 1000, true}, {byUser, 0, false}, {byUser, 100, false},
		{byUser, 10001, false}, {asBefore, 0, true}, {asBefore, 1000, true}, {pinsettest.Root(4), 0, false},
	} {
		if own, err := set.OwnBy(ctx, want.commit, want.uid); err != nil || own != want.own {
			t.Errorf("%s is own for user %d: %v, %v; want %v", want.commit, want.uid, own, err, want.own)
		}
	}
	if own, err := set.Own(ctx, byUser); err != nil || own {
		t.Errorf("a user's mark counts as the host's: %v, %v", own, err)
	}
	if err := set.MarkOwnBy(ctx, cid.Undef, 1000); err == nil {
		t.Error("a mark without a commit was made")
	}
}
