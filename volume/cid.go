package volume

import (
	"fmt"

	"github.com/ipfs/go-cid"
)

// CID is a CID that is a plain string in JSON; the empty string is none.
type CID struct{ cid.Cid }

// MarshalText implements [encoding.TextMarshaler].
func (c CID) MarshalText() ([]byte, error) {
	if !c.Defined() {
		return nil, nil
	}
	return []byte(c.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *CID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		c.Cid = cid.Undef
		return nil
	}
	var err error
	if c.Cid, err = cid.Decode(string(text)); err != nil {
		return fmt.Errorf("CID %q: %w", text, err)
	}
	return nil
}

// MarshalJSON overrides the form of [cid.Cid].
func (c CID) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", c.text()), nil }

// UnmarshalJSON overrides the form of [cid.Cid].
func (c *CID) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return fmt.Errorf("CID %s is not a string", b)
	}
	return c.UnmarshalText(b[1 : len(b)-1])
}

func (c CID) text() string {
	if !c.Defined() {
		return ""
	}
	return c.String()
}
