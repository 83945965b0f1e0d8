package volume

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

// Keep says which commits of a volume stay: the newest ones, and the newest of each of so many hours, days, weeks
// and months that have any. The zero value keeps all. The head, tagged commits, the base of changes, forks and what they
// have in common with the head always stay.
type Keep struct {
	Last, Hourly, Daily, Weekly, Monthly int
}

// ParseKeep reads rules such as "last:5,daily:7".
func ParseKeep(s string) (Keep, error) {
	var k Keep
	for rule := range strings.SplitSeq(s, ",") {
		name, count, _ := strings.Cut(rule, ":")
		n, err := strconv.Atoi(count)
		field := k.field(name)
		if err != nil || n <= 0 || field == nil || *field != 0 {
			return k, fmt.Errorf("rule %q: %w", rule, ErrInvalid)
		}
		*field = n
	}
	return k, nil
}

func (k *Keep) field(name string) *int {
	switch name {
	case "last":
		return &k.Last
	case "hourly":
		return &k.Hourly
	case "daily":
		return &k.Daily
	case "weekly":
		return &k.Weekly
	case "monthly":
		return &k.Monthly
	}
	return nil
}

// kept is a commit that is pinned for a volume, and the rules that keep it.
type kept struct {
	root     cid.Cid
	sequence uint64
	time     time.Time
	rules    []string
}

// decide names the rules that keep each of the commits, the newest first.
func (k Keep) decide(commits []*kept, loc *time.Location) {
	if k == (Keep{}) {
		for _, c := range commits {
			c.rules = append(c.rules, "all")
		}
		return
	}
	for i, c := range commits {
		if i < k.Last {
			c.rules = append(c.rules, "last")
		}
	}
	for _, rule := range []struct {
		name   string
		count  int
		period func(time.Time) string
	}{
		{"hourly", k.Hourly, func(t time.Time) string { return t.Format("2006-01-02T15") }},
		{"daily", k.Daily, func(t time.Time) string { return t.Format(time.DateOnly) }},
		{"weekly", k.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, " ", w) }},
		{"monthly", k.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
	} {
		last, left := "", rule.count
		for _, c := range commits {
			if p := rule.period(c.time.In(loc)); p != last && left > 0 {
				c.rules, last = append(c.rules, rule.name), p
				left--
			}
		}
	}
}

// Retain stops keeping those commits of a volume that no rule of its option keep asks for. With DryRun it only
// says what each rule keeps.
type Retain struct {
	Name   string `json:"name"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// Retained is what Retain decided about one commit; without rules it is not kept.
type Retained struct {
	Commit CID       `json:"commit"`
	Time   time.Time `json:"time"`
	Rules  []string  `json:"rules"`
}

func (op *Retain) run(ctx context.Context, m *Manager) (Result, error) {
	r, unlock, err := m.lockRecord(ctx, op.Name)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	res, err := m.result(ctx, r)
	if err != nil {
		return res, err
	}
	res.Retained, err = m.retain(ctx, r, op.DryRun)
	return res, err
}

func (m *Manager) retain(ctx context.Context, r *record, dryRun bool) ([]Retained, error) {
	o, err := r.options()
	if err != nil {
		return nil, err
	}
	commits, err := m.pinned(ctx, r)
	if err != nil {
		return nil, err
	}
	o.Keep.decide(commits, time.Local)
	forks, err := m.keptForForks(ctx, r)
	if err != nil {
		return nil, err
	}
	m.always(r, forks, commits)
	var all []Retained
	needed, err := m.needed(r.ID)
	if err != nil {
		return nil, err
	}
	for _, c := range commits {
		if by, ok := needed[c.root]; ok && len(c.rules) == 0 {
			c.rules = append(c.rules, "volume "+by)
		}
		all = append(all, Retained{Commit: CID{c.root}, Time: c.time, Rules: c.rules})
		if len(c.rules) > 0 || dryRun {
			continue
		}
		if err := m.o.Pins.Remove(ctx, c.root, pinOwner(r)); err != nil {
			return all, err
		}
	}
	return all, nil
}

// letGo stops keeping what no rule asks for.
func (m *Manager) letGo(ctx context.Context, r *record) error {
	if o, err := r.options(); err != nil || o.Keep == (Keep{}) {
		return err
	}
	_, err := m.retain(ctx, r, false)
	return err
}

// needed names for each snapshot that another volume stands on, or has a tag of, that volume. It
// may rely on a pin of this one, from when a snapshot had one pin for all.
func (m *Manager) needed(except string) (map[cid.Cid]string, error) {
	roots := map[cid.Cid]string{}
	for _, bucket := range [][]byte{bucketVolumes, bucketTrash} {
		rs, err := m.db.list(bucket)
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			if r.ID == except {
				continue
			}
			roots[r.Head.Cid] = r.Name
			if r.Overlay != nil {
				roots[r.Overlay.Base.Cid] = r.Name
			}
			for _, tagged := range r.Tags {
				roots[tagged.Cid] = r.Name
			}
		}
	}
	return roots, m.neededUnknown(roots)
}

// always adds what is kept whatever the rules say.
func (m *Manager) always(r *record, forks map[cid.Cid]string, commits []*kept) {
	for _, c := range commits {
		if rule, is := forks[c.root]; is && c.root != r.Head.Cid {
			c.rules = append(c.rules, rule)
		}
		if c.root == r.Head.Cid {
			c.rules = append(c.rules, "head")
		}
		if r.Overlay != nil && c.root == r.Overlay.Base.Cid {
			c.rules = append(c.rules, "base")
		}
		for tag, root := range r.Tags {
			if c.root == root.Cid {
				c.rules = append(c.rules, "tag "+tag)
			}
		}
		slices.Sort(c.rules)
	}
}

// pinned returns the commits that are kept for a volume, the newest first: by their sequence, for a clock can be set
// back.
func (m *Manager) pinned(ctx context.Context, r *record) ([]*kept, error) {
	var commits []*kept
	err := m.eachPin(ctx, r, func(p pinset.Pin) error {
		n, err := strconv.ParseUint(p.Meta[PinSequence], 10, 64)
		commits = append(commits, &kept{root: p.Root, sequence: n, time: p.Created})
		return err
	})
	slices.SortStableFunc(commits, func(a, b *kept) int { return cmp.Compare(b.sequence, a.sequence) })
	return commits, err
}

func (m *Manager) eachPin(ctx context.Context, r *record, f func(pinset.Pin) error) error {
	for p, err := range m.o.Pins.All(ctx) {
		if err != nil {
			return err
		}
		if p.Owner != pinOwner(r) {
			continue
		}
		if err := f(p); err != nil {
			return err
		}
	}
	return nil
}
