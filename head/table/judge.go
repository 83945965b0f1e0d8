package table

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/head"
)

// plan is what becomes of a volume's tips.
type plan struct {
	add  []head.Head
	drop []head.Head
	news bool // a head is added
}

// judge finds out which of the known heads and the new ones are no ancestors of another. replaced is a commit that a
// new head says it was made from, or the new head itself.
func (t *Table) judge(ctx context.Context, news []head.Head, replaced cid.Cid) (map[ipns.Name]plan, error) {
	heads := map[ipns.Name][]head.Head{}
	for _, h := range news {
		if len(h.Record) == 0 {
			return nil, fmt.Errorf("head %s is not signed", h.Commit)
		}
		heads[h.Volume] = append(heads[h.Volume], h)
	}
	plans := map[ipns.Name]plan{}
	for key, heads := range heads {
		var tips []head.Head
		err := t.db.View(func(tx *bolt.Tx) (err error) {
			tips, err = tipsOf(tx, key)
			return err
		})
		if err != nil {
			return nil, err
		}
		made := replaced
		if slices.ContainsFunc(heads, func(h head.Head) bool { return h.Commit == replaced }) {
			made = cid.Undef
		}
		stay, err := t.newest(ctx, append(slices.Clone(tips), heads...), made)
		if err != nil {
			return nil, err
		}
		plans[key] = compare(tips, stay)
	}
	return plans, nil
}

func compare(before, after []head.Head) (p plan) {
	in := func(hs []head.Head, h head.Head) bool {
		return slices.ContainsFunc(hs, func(o head.Head) bool { return o.Commit == h.Commit })
	}
	for _, h := range after {
		if !in(before, h) {
			p.add, p.news = append(p.add, h), true
		}
	}
	for _, h := range before {
		if !in(after, h) {
			p.drop = append(p.drop, h)
		}
	}
	return p
}

// newest returns the heads of one volume that are no ancestors of another, as far as ancestors are known.
func (t *Table) newest(ctx context.Context, heads []head.Head, replaced cid.Cid) (stay []head.Head, _ error) {
	// By sequence alone: one with the mark of a fork may come after one without.
	slices.SortFunc(heads, func(a, b head.Head) int { return b.State().Compare(a.State()) })
	heads = slices.CompactFunc(heads, func(a, b head.Head) bool { return a.Commit == b.Commit })
	covered := map[cid.Cid]bool{}
	for i, h := range heads {
		if covered[h.Commit] || h.Commit == replaced {
			continue
		}
		stay = append(stay, h)
		if i < len(heads)-1 {
			if err := t.cover(ctx, covered, h, heads[i+1:]); err != nil {
				return nil, err
			}
		}
	}
	return stay, nil
}

// cover marks those of the older heads that are ancestors of h. What is not known of ancestors hides no head.
func (t *Table) cover(ctx context.Context, covered map[cid.Cid]bool, h head.Head, older []head.Head) error {
	oldest, left := older[len(older)-1].Sequence, len(older)
	for a, err := range t.history(ctx, h.Commit) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil || a.Sequence < oldest {
			return nil
		}
		if !covered[a.CID] && slices.ContainsFunc(older, func(o head.Head) bool { return o.Commit == a.CID }) {
			covered[a.CID] = true
			left--
		}
		if left == 0 {
			return nil
		}
	}
	return nil
}

func (p plan) carryOut(tx *bolt.Tx, key ipns.Name) error {
	b := tx.Bucket(bucketTips)
	for _, h := range p.drop {
		if err := b.Delete(tipKey(key, h.Commit)); err != nil {
			return err
		}
		// It is told with what comes after it.
		if err := tx.Bucket(bucketUnsent).Delete(tipKey(key, h.Commit)); err != nil {
			return err
		}
	}
	for _, h := range p.add {
		data, err := json.Marshal(h)
		if err != nil {
			return err
		}
		if err := b.Put(tipKey(key, h.Commit), data); err != nil {
			return err
		}
	}
	return nil
}

func tipKey(key ipns.Name, commit cid.Cid) []byte { return append(nameKey(key), commit.Bytes()...) }
