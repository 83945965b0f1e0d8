package restorer

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// Progress is counted while a restore goes on and may be read at any time.
type Progress struct {
	Entries atomic.Uint64 // dealt with: written, or found equal
	Bytes   atomic.Uint64 // of file content: written, or found equal
}

// Report says what a restore did.
type Report struct {
	Made      uint64 // entries that were not there
	Replaced  uint64 // entries whose content or type was another
	Adjusted  uint64 // entries of which only attributes were another
	Unchanged uint64 // entries that were equal
	Removed   uint64 // entries removed because the snapshot does not have them
	Extra     uint64 // entries left though the snapshot does not have them; what is below them is not counted
	Bytes     uint64 // of file content written
	Omitted   []Omission
}

// OmissionKind is what was not restored.
type OmissionKind string

const (
	OmitOwner    OmissionKind = "owner"    // user or group
	OmitMode     OmissionKind = "mode"     // permissions
	OmitSetuid   OmissionKind = "setuid"   // setuid and setgid bits
	OmitDevice   OmissionKind = "device"   // the device itself
	OmitXattr    OmissionKind = "xattr"    // some extended attribute, an ACL or capability perhaps
	OmitMtime    OmissionKind = "mtime"    // modification time
	OmitHardlink OmissionKind = "hardlink" // restored as a file of its own
	OmitMount    OmissionKind = "mount"    // not removed, because another filesystem is mounted there
)

// Omission sums up what was not restored, or not removed.
type Omission struct {
	Kind    OmissionKind
	Foreign bool // by intent, because the snapshot is from elsewhere; else because the system refused
	Count   uint64
	Paths   []string // the first few
}

const maxOmissionPaths = 3

// tally collects a report from many goroutines.
type tally struct {
	made, replaced, adjusted, unchanged, removed, extra, bytes atomic.Uint64

	mu      sync.Mutex
	omitted []Omission
}

func (t *tally) omit(kind OmissionKind, foreign bool, path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.omitted, func(o Omission) bool { return o.Kind == kind && o.Foreign == foreign })
	if i < 0 {
		i = len(t.omitted)
		t.omitted = append(t.omitted, Omission{Kind: kind, Foreign: foreign})
	}
	o := &t.omitted[i]
	o.Count++
	if len(o.Paths) < maxOmissionPaths {
		o.Paths = append(o.Paths, path)
	}
}

func (t *tally) report() *Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.omitted, func(a, b Omission) int { return cmp.Compare(a.Kind, b.Kind) })
	return &Report{
		Made: t.made.Load(), Replaced: t.replaced.Load(), Adjusted: t.adjusted.Load(),
		Unchanged: t.unchanged.Load(), Removed: t.removed.Load(), Extra: t.extra.Load(), Bytes: t.bytes.Load(),
		Omitted: t.omitted,
	}
}

// outcome is what became of an entry.
type outcome int

const (
	unchanged outcome = iota
	adjusted
	replaced
	made
	leftOut // the report has it among the omissions
)

func (r *run) count(o outcome) {
	switch o {
	case unchanged:
		r.tally.unchanged.Add(1)
	case adjusted:
		r.tally.adjusted.Add(1)
	case replaced:
		r.tally.replaced.Add(1)
	case made:
		r.tally.made.Add(1)
	}
	r.o.Progress.Entries.Add(1)
}
