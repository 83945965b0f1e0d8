package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/tree"
)

// Labels of a volume's commits that are its options: the option's key follows. An empty value says that the option is as
// if it was never given.
const (
	labelPrefix = "volary."
	optionLabel = labelPrefix + "option."
)

// Bounds of what is taken over from commits, in bytes: of one value, of one key, and of all.
const (
	maxSaidValue = 4096
	maxSaidKey   = 64
	maxSaid      = 32 << 10
)

// travels reports whether an option is the volume's, and goes where it goes. All others are each host's own: what is run
// there, who may write there, and where changes are.
func travels(key string) bool {
	switch key {
	case "chunker", "commit", "durability", "durability-timeout", "exclude", "io-timeout", "keep", "lower", "pause", "publish",
		optionReplicas, "size", "trash":
		return true
	}
	return false
}

// given are the options that a volume has here: those that were set here, and of the others those that its head says, as
// far as they go together with these.
func (r *record) given() map[string]string {
	own, said := withinBounds(r.Options), map[string]string{}
	for key, value := range r.Said {
		// How often the cluster is to hold the volume is said once for all hosts.
		_, here := own[key]
		if travels(key) && value != "" && !slices.Contains(r.Unsaid, key) && (!here || key == optionReplicas) {
			said[key] = value
		}
	}
	all := with(own, said)
	if _, err := ParseOptions(all); err == nil || len(said) == 0 {
		return all
	}
	all = own
	for _, key := range slices.Sorted(maps.Keys(said)) {
		more := with(all, map[string]string{key: said[key]})
		if _, err := ParseOptions(more); err == nil {
			all = more
		}
	}
	return all
}

// with returns options and more of them, which take the place of those of the same keys.
func with(options, more map[string]string) map[string]string {
	if len(more) == 0 {
		return options
	}
	all := maps.Clone(options)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, more)
	return all
}

func (r *record) options() (VolumeOptions, error) { return ParseOptions(r.given()) }

// says are the options that the volume's next commit says: those of its head, what was set here since, and what was set
// here that its head says nothing of.
func (r *record) says() map[string]string {
	say := maps.Clone(r.Said)
	if say == nil {
		say = map[string]string{}
	}
	for key, value := range r.Options {
		if _, said := say[key]; travels(key) && !said {
			say[key] = value
		}
	}
	for _, key := range r.Unsaid {
		_, said := say[key]
		if value, own := r.Options[key]; own || said {
			say[key] = value
		}
	}
	return bounded(say)
}

// OptionLabels are the labels of a volume's commit that are its options; nil if it has none.
func OptionLabels(c *snapshot.Commit) map[string]string { return optionLabels(saidBy(c)) }

func optionLabels(options map[string]string) map[string]string {
	var labels map[string]string
	for key, value := range options {
		labels = with(labels, map[string]string{optionLabel + key: value})
	}
	return labels
}

// label has a commit say the volume's options beside its other labels.
func (r *record) label(c *snapshot.Commit) {
	c.Labels = with(c.Labels, optionLabels(r.says()))
}

// bounded are those options that a commit can say: of what is too much those stay that this program knows. What is a
// host's own is not among them.
func bounded(options map[string]string) map[string]string {
	known, size := map[string]string{}, 0
	for _, ours := range []bool{true, false} {
		for _, key := range slices.Sorted(maps.Keys(options)) {
			value := options[key]
			if _, host := optionKeys()[key]; travels(key) != ours || host && !ours {
				continue
			}
			if key == "" || len(key) > maxSaidKey || len(value) > maxSaidValue || !utf8.ValidString(value) || size+len(key)+len(value) > maxSaid {
				continue
			}
			size += len(key) + len(value)
			known[key] = value
		}
	}
	return known
}

// saidBy are the options that a commit says, those that this program does not know among them: they are handed on.
func saidBy(c *snapshot.Commit) map[string]string {
	said := map[string]string{}
	for label, value := range c.Labels {
		if key, is := strings.CutPrefix(label, optionLabel); is {
			said[key] = value
		}
	}
	return bounded(said)
}

// SaidReplicas is how many peers of a cluster are to hold a volume's commit, as the commit says; empty if it does not.
func SaidReplicas(c *snapshot.Commit) string {
	text := c.Labels[optionLabel+optionReplicas]
	if _, err := ParseReplicas(text); err != nil {
		return ""
	}
	return text
}

// hears takes over what a volume's head says of its options, and returns what is wrong with some of them if the head before
// it did not say the same.
func (r *record) hears(head *snapshot.Commit) (wrong error) {
	if r.SaidIn == r.Head || head.Volume != r.ID || !r.Removed.IsZero() {
		return nil
	}
	before := r.Said
	r.Said, r.SaidIn = saidBy(head), r.Head
	if maps.Equal(r.Said, before) {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(r.Said)) {
		value := r.Said[key]
		if !travels(key) || value == "" {
			continue
		}
		if _, err := ParseOptions(map[string]string{key: value}); err != nil {
			text, _, _ := strings.Cut(err.Error(), "\n")
			wrong = errors.Join(wrong, errors.New(text))
		}
	}
	return wrong
}

// hearOptions is hears of a commit that is the volume's head, with what is wrong in the log: a volume is usable whatever
// others say.
func (m *Manager) hearOptions(r *record, head *snapshot.Commit) {
	if err := r.hears(head); err != nil {
		m.log.Warn("options that another host gave are ignored", logVolume, r.Name, logError, err)
	}
}

// hearOptionsHere is hearOptions if the head is here, and reports whether something was taken over.
func (m *Manager) hearOptionsHere(ctx context.Context, r *record) bool {
	was := r.SaidIn
	if !r.shared() || was == r.Head {
		return false
	}
	if c, err := m.commitHere(ctx, r.Head.Cid); err == nil {
		m.hearOptions(r, c)
	}
	return r.SaidIn != was
}

// hearOptionsOf is hearOptions of a head that is got, if need be.
func (m *Manager) hearOptionsOf(ctx context.Context, b snapshot.Blocks, r *record) error {
	if !r.shared() || !r.Head.Defined() || r.SaidIn == r.Head {
		return nil
	}
	t, err := tree.Open(ctx, b, r.Head.Cid)
	if err == nil && t.Commit != nil {
		m.hearOptions(r, t.Commit)
	}
	return err
}

// hearLast takes over the options that a volume had when another host removed it, as far as that is here: until when it
// can be taken back is one of them.
func (m *Manager) hearLast(ctx context.Context, r *record, last At) {
	if !last.Head.Defined() {
		return
	}
	end, err := m.commitHere(ctx, last.Head)
	if err != nil || len(end.Parents) == 0 {
		return
	}
	at := *r
	at.Head = CID{end.Parents[0]}
	if m.hearOptionsHere(ctx, &at) {
		r.Said, r.SaidIn = at.Said, CID{} // they are heard again with the head that it is brought back at
	}
}

// checkSayable refuses options that no commit could say.
func checkSayable(options map[string]string) error {
	for key, value := range options {
		if travels(key) && len(value) > maxSaidValue {
			return fmt.Errorf("option %s has %d bytes, more than %d: %w", key, len(value), maxSaidValue, ErrInvalid)
		}
	}
	return nil
}

// checkLabels refuses labels that would be taken for what the program says.
func checkLabels(labels map[string]string) error {
	for label := range labels {
		if strings.HasPrefix(label, labelPrefix) || label == "removed" {
			return fmt.Errorf("label %q: %w\nlabels that begin with %q, and removed, are not for people; options are set with `volary volume set`", label, ErrInvalid, labelPrefix)
		}
	}
	return nil
}

// sayNow has other hosts hear of options that were set here, by a commit of what the head has. It is not made where that
// could be a fork of what another host writes: then the next commit says them.
func (m *Manager) sayNow(ctx context.Context, r *record) (said bool, err error) {
	if len(r.Unsaid) == 0 || !m.leased(r) || m.mayChange(r) != nil || r.Overlay != nil && r.Overlay.ReadOnly {
		return false, nil
	}
	switch l := m.lease(r); {
	case len(r.Users) > 0 && (l == nil || !l.Here), len(r.Users) == 0 && l != nil:
		return false, nil
	case len(r.Users) == 0:
		if err := m.o.Leases.Acquire(ctx, r.ID, false); err != nil {
			return false, nil
		}
		defer m.releaseLease(r)
	}
	if err := m.catchUp(ctx, r); err != nil {
		return false, err
	}
	last, err := m.lastTold(ctx, r)
	if err != nil || last.Removed || last.Head != r.Head.Cid {
		return false, err
	}
	return true, m.rollback(ctx, r, r.Head.Cid, "set "+strings.Join(r.Unsaid, ", "))
}
