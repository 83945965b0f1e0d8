// Package snapshot is the immutable side of Volary: blocks named by their CID, trees made of them, and the
// commits that name one state of a directory.
//
// Start with [Blocks], the store everything is read from and written to, and [Commit], one state of a
// directory. The sub-packages do the work in either direction: importer turns a directory into a commit, tree
// reads one, restorer turns one into a directory.
//
// Everything read through this package was checked against its CID; nothing here trusts a name, a size or
// a link it finds in a block.
package snapshot

import (
	"context"
	"errors"
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot/dagcbor"
)

var (
	// ErrNotFound says that a store does not hold a block. A store that may be incomplete for a moment
	// (a remote one) answers ErrUnavailable instead.
	ErrNotFound = errors.New("block not found")
	// ErrUnavailable says that a block could not be had now; whether it exists is not known.
	ErrUnavailable = errors.New("block unavailable")
	// ErrNotFetched is an ErrUnavailable: all who could be asked were, and nobody delivered the block in time.
	ErrNotFetched error = notFetched{}
	// ErrDamaged says that stored bytes do not match their CID.
	ErrDamaged = errors.New("block damaged")
	// ErrFormat says that bytes are not of the format they claim, or not in its canonical form.
	ErrFormat = dagcbor.ErrFormat
)

type notFetched struct{}

func (notFetched) Error() string { return "nobody delivered the block" }
func (notFetched) Unwrap() error { return ErrUnavailable }

// MaxBlockSize is the largest block in bytes that is written, read or accepted from outside: the limit that
// IPFS implementations share (bitswap messages, Kubo's dag import).
const MaxBlockSize = 2 << 20

// Blocks stores immutable bytes by CID. All methods are safe for concurrent use.
//
// Get verifies: bytes that do not match c are never returned, the error wraps ErrDamaged. It wraps
// ErrNotFound or ErrUnavailable when there is no such block. The returned bytes must not be changed.
//
// Has answers for here and now, one value for each CID asked, and never fetches. A block it answers for is
// indexed; whether its bytes are sound only Get tells.
//
// Put stores blocks, which the caller vouches for (bytes match CIDs, at most [MaxBlockSize] each); what is
// there already is not written again. The bytes may be reused by the caller once Put returns. Blocks put in
// one call become visible in their order.
//
// What Put returned from is durable once a later Sync returns. Without Sync it survives the end of the
// process, but not a power cut.
type Blocks interface {
	Get(ctx context.Context, c cid.Cid) (blocks.Block, error)
	Has(ctx context.Context, cs ...cid.Cid) ([]bool, error)
	Put(ctx context.Context, bs ...blocks.Block) error
	Sync(ctx context.Context) error
}

// minDigest is how many bytes of a hash prove anything.
const minDigest = 20

// CheckHash says whether a block from outside is what its CID says: the error wraps [ErrDamaged] if its bytes
// do not match, and [ErrFormat] if it is larger than [MaxBlockSize] or its hash is not known or too short to
// prove anything.
func CheckHash(b blocks.Block) error {
	c := b.Cid()
	p := c.Prefix()
	switch {
	case len(b.RawData()) > MaxBlockSize:
		return fmt.Errorf("block %s of %d bytes is larger than %d: %w", c, len(b.RawData()), MaxBlockSize, ErrFormat)
	case p.MhType != mh.IDENTITY && p.MhLength >= 0 && p.MhLength < minDigest:
		return fmt.Errorf("hash of %s has only %d bytes: %w", c, p.MhLength, ErrFormat)
	}
	sum, err := p.Sum(b.RawData())
	if err != nil {
		return fmt.Errorf("hash of %s: %w: %w", c, ErrFormat, err)
	}
	if !sum.Equals(c) {
		return fmt.Errorf("bytes of %s: %w", c, ErrDamaged)
	}
	return nil
}
