// Package directory makes of a set of pins the directory of a namespace's volumes: each head's pin carries the head and
// the name of its volume, signed, so that a host which reaches only the pins finds every volume.
//
// Start with [Pin], which makes a head's pin, and [List], which reads many. Pins may be anybody's: what is no volume's,
// not signed, too large or under a wrong name is counted and passed over.
package directory

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"slices"

	"github.com/ipfs/boxo/ipns"

	"github.com/volary/volary/head"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset"
)

// Reasons why a pin is no volume's. Read's errors wrap one of them.
var (
	ErrOther     = errors.New("not a volume's")
	ErrOversized = errors.New("too large")
	ErrMalformed = errors.New("malformed")
	ErrForged    = errors.New("not signed as it should be")
	ErrMisnamed  = errors.New("name or root are not what was signed")
)

const (
	// MaxSize is the most that name and notes of a pin may take, escaped as in a URL. Clusters take no more than 6 KiB
	// with prefixes, addresses and allocations, which need the rest.
	MaxSize = 4 << 10

	// KeyHead and KeyBinding are the keys of the notes with a record and a binding, in unpadded URL-safe base64.
	KeyHead    = "head"
	KeyBinding = "binding"
)

var encoding = base64.RawURLEncoding.Strict()

// Entry is what one pin says of a volume.
type Entry struct {
	Head    head.Head
	Binding namespace.Binding
}

// Owner is whose pins those of a volume's heads are, on every host.
func Owner(volume ipns.Name) string { return "volume/" + volume.String() }

// name is that of the entry's pin. A set puts what tells namespaces apart in front of it.
func (e Entry) name() string { return fmt.Sprintf("%s/%d", e.Binding.Name, e.Head.Sequence) }

// Pin is the pin of a volume's head.
func Pin(n *namespace.Namespace, e Entry) (pinset.Pin, error) {
	p := Trusted(e)
	// What others would pass over must not be taken for pinned here.
	if _, err := Read(n, p); err != nil {
		return pinset.Pin{}, fmt.Errorf("make the pin %s: %w", p.Name, err)
	}
	return p, nil
}

// Trusted is Pin of what was verified before.
func Trusted(e Entry) pinset.Pin {
	return pinset.Pin{Root: e.Head.Commit, Owner: Owner(e.Head.Volume), Name: e.name(), Meta: map[string]string{
		KeyHead: encoding.EncodeToString(e.Head.Record), KeyBinding: encoding.EncodeToString(e.Binding.Data),
	}}
}

// Read reads a pin that Pin made. Other notes may have been added to it.
func Read(n *namespace.Namespace, p pinset.Pin) (Entry, error) {
	return read(n, n.Verify, p)
}

func read(n *namespace.Namespace, verify func([]byte) (namespace.Binding, error), p pinset.Pin) (e Entry, _ error) {
	if p.Meta[KeyHead] == "" && p.Meta[KeyBinding] == "" {
		return e, fmt.Errorf("pin %.80q: %w", p.Name, ErrOther)
	}
	if size := sizeOf(p); size > MaxSize {
		return e, fmt.Errorf("pin %.80q: name and notes of %d bytes, at most %d are allowed: %w", p.Name, size, MaxSize, ErrOversized)
	}
	binding, err := note(p, KeyBinding)
	if err == nil {
		e.Binding, err = verify(binding)
	}
	if err != nil {
		return e, fmt.Errorf("pin %.80q: %w", p.Name, reason(err))
	}
	record, err := note(p, KeyHead)
	if err == nil {
		e.Head, err = head.Verify(e.Binding.Volume, record)
	}
	if err != nil {
		return e, fmt.Errorf("pin %.80q: %w", p.Name, reason(err))
	}
	if p.Root != e.Head.Commit || p.Name != e.name() {
		return e, fmt.Errorf("pin %.80q of %s, its notes are signed for %q of %s: %w", p.Name, p.Root, e.name(), e.Head.Commit, ErrMisnamed)
	}
	return e, nil
}

func note(p pinset.Pin, key string) ([]byte, error) {
	data, err := encoding.DecodeString(p.Meta[key])
	if err != nil || len(data) == 0 || encoding.EncodeToString(data) != p.Meta[key] {
		return nil, fmt.Errorf("note %s: %w", key, ErrMalformed)
	}
	return data, nil
}

func reason(err error) error {
	switch {
	case errors.Is(err, namespace.ErrSignature), errors.Is(err, head.ErrSignature):
		return fmt.Errorf("%w: %w", ErrForged, err)
	case errors.Is(err, ErrMalformed):
		return err
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

func sizeOf(p pinset.Pin) int {
	size := len(url.QueryEscape(p.Name))
	for k, v := range p.Meta {
		// What is too large is not looked through.
		if size > MaxSize || len(v) > MaxSize || len(k) > MaxSize {
			return max(size, len(v), len(k))
		}
		size += len(url.QueryEscape(k)) + len(url.QueryEscape(v))
	}
	return size
}

// Dropped counts the pins that were passed over.
type Dropped struct {
	Other, Oversized, Malformed, Forged, Misnamed int
}

func (d *Dropped) count(err error) {
	for _, reason := range []struct {
		is error
		n  *int
	}{{ErrOther, &d.Other}, {ErrOversized, &d.Oversized}, {ErrForged, &d.Forged}, {ErrMisnamed, &d.Misnamed}} {
		if errors.Is(err, reason.is) {
			*reason.n++
			return
		}
	}
	d.Malformed++
}

// Entries yields what the pins say that can be believed, in their order, and counts the others. It ends with the first
// error of the pins themselves.
func Entries(n *namespace.Namespace, pins iter.Seq2[pinset.Pin, error], d *Dropped) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		verify := n.Remembering()
		for p, err := range pins {
			if err != nil {
				yield(Entry{}, fmt.Errorf("read the directory of volumes: %w", err))
				return
			}
			e, err := read(n, verify, p)
			if err != nil {
				d.count(err)
				continue
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Volume is what the pins say of one volume, at its newest.
type Volume struct {
	Entry
	Heads   int  // how many of its heads are pinned
	Removed bool // it is removed
	Named   bool // it is what its name means; false if another volume has that, or it is removed
}

// Directory is the volumes of a namespace.
type Directory struct {
	Volumes []Volume // in the order of their names
	Dropped Dropped
}

// List reads a set of pins, in memory for the volumes but not for the pins. An error is one of the set itself.
func List(n *namespace.Namespace, pins iter.Seq2[pinset.Pin, error]) (Directory, error) {
	var d Directory
	volumes := map[ipns.Name]*Volume{}
	for e, err := range Entries(n, pins, &d.Dropped) {
		if err != nil {
			return d, err
		}
		v := volumes[e.Head.Volume]
		if v == nil {
			v = &Volume{Entry: e}
			volumes[e.Head.Volume] = v
		}
		v.Heads++
		if head.Compare(v.Head, e.Head) < 0 {
			v.Head = e.Head
		}
		if namespace.Compare(v.Binding, e.Binding) < 0 {
			v.Binding = e.Binding
		}
	}
	names := namespace.Names(func(yield func(namespace.Binding) bool) {
		for _, v := range volumes {
			if !yield(v.Binding) {
				return
			}
		}
	})
	for _, v := range volumes {
		v.Removed = v.Binding.Removed()
		v.Named = !v.Removed && names[v.Binding.Name].Volume == v.Head.Volume
	}
	for _, v := range slices.SortedFunc(maps.Values(volumes), compareVolumes) {
		d.Volumes = append(d.Volumes, *v)
	}
	return d, nil
}

func compareVolumes(a, b *Volume) int {
	return cmp.Or(cmp.Compare(a.Binding.Name, b.Binding.Name), cmp.Compare(a.Head.Volume.String(), b.Head.Volume.String()))
}
