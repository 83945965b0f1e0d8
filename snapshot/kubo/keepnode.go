package kubo

import (
	"fmt"
	"strings"
	"unicode/utf8"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/dagcbor"
)

const (
	keepKind = "volary/keep/1"
	// maxText bounds a host and a purpose: a pin's name has both, and at most 255 bytes.
	maxText = 100
)

// Keep is why a host keeps a commit in a daemon. Its pin is not on the commit itself, where there can be one only,
// which whoever else removes: such as an IPFS Cluster whose pin of the commit ends.
type Keep struct {
	Host    string // peer ID
	Purpose string // what for, such as a volume's head; one word
	Commit  cid.Cid
}

type keepNode struct {
	Kind    string       `cbor:"kind"`
	Host    string       `cbor:"host"`
	Purpose string       `cbor:"purpose"`
	Commit  dagcbor.Link `cbor:"commit"`
}

// Encode makes the node that is pinned.
func (k Keep) Encode() (blocks.Block, error) {
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("encode keep: %w", err)
	}
	return dagcbor.Encode(keepNode{keepKind, k.Host, k.Purpose, dagcbor.Link{Cid: k.Commit}})
}

func (k Keep) check() error {
	switch {
	case !k.Commit.Defined():
		return fmt.Errorf("it names no commit: %w", snapshot.ErrFormat)
	case !plain(k.Host) || !plain(k.Purpose):
		return fmt.Errorf("host %q or purpose %q is no word of 1 to %d bytes: %w", k.Host, k.Purpose, maxText, snapshot.ErrFormat)
	}
	return nil
}

func plain(s string) bool {
	return s != "" && len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsAny(s, "/ \n")
}

// DecodeKeep reads what Encode wrote.
func DecodeKeep(b blocks.Block) (Keep, error) {
	var n keepNode
	if err := dagcbor.Decode(b, &n); err != nil {
		return Keep{}, err
	}
	k := Keep{n.Host, n.Purpose, n.Commit.Cid}
	if n.Kind != keepKind {
		return k, fmt.Errorf("decode keep %s: kind %q: %w", b.Cid(), n.Kind, snapshot.ErrFormat)
	}
	if err := k.check(); err != nil {
		return k, fmt.Errorf("decode keep %s: %w", b.Cid(), err)
	}
	return k, nil
}
