package volume

import (
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// MaxName is the longest name of a volume in bytes.
const MaxName = 255

// CheckName says whether a volume may have a name: UTF-8 without control characters, slashes, spaces and '@',
// not beginning with a dot or dash. The error wraps ErrInvalid.
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
	for _, r := range name {
		if r == '/' || r == '@' || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return fmt.Errorf("volume name %q has %q in it: %w", name, r, ErrInvalid)
		}
	}
	return nil
}

func sortedUnique(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}
