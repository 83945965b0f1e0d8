package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
)

// MaxName is the longest name of a volume in bytes.
const MaxName = 255

// CheckName says whether a volume may have a name: UTF-8 without control characters, slashes, spaces and '@',
// not beginning with a dot or dash, and no CID, which would be taken for one wherever it stands. The error wraps ErrInvalid.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a volume needs a name: %w", ErrInvalid)
	case len(name) > MaxName:
		return fmt.Errorf("volume name of %d bytes, at most %d are allowed: %w", len(name), MaxName, ErrInvalid)
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("volume name %q begins with %q: %w", name, name[:1], ErrInvalid)
	case !utf8.ValidString(name):
		return fmt.Errorf("volume name %q is not UTF-8: %w", name, ErrInvalid)
	}
	if _, err := cid.Decode(name); err == nil {
		return fmt.Errorf("volume name %q is a CID: %w", name, ErrInvalid)
	}
	for _, r := range name {
		if r == '/' || r == '@' || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return fmt.Errorf("volume name %q has %q in it: %w", name, r, ErrInvalid)
		}
	}
	return nil
}

// checkFree says whether a volume that was called had may be given a name. One that it shares with a tag would hide the
// tag. Of one with a colon Docker would take the rest for a path; those of earlier versions keep it.
func (m *Manager) checkFree(ctx context.Context, name, had string) error {
	if strings.Contains(name, ":") && name != had {
		return fmt.Errorf("volume name %q has ':' in it: %w", name, ErrInvalid)
	}
	if err := CheckName(name); err != nil || m.o.IsTag == nil {
		return err
	}
	if tag, err := m.o.IsTag(ctx, name); err != nil || !tag {
		return err
	}
	return fmt.Errorf("%q: %w: it is the tag of a snapshot\nchoose another one, or delete it with `volary tag --delete %s`", name, ErrTaken, name)
}

func sortedUnique(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}
