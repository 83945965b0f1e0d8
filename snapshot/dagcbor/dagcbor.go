// Package dagcbor encodes and decodes the nodes that Volary itself defines, as canonical DAG-CBOR: map keys
// sorted by length and then bytes, definite lengths, the shortest integers, tag 42 for links and no other.
//
// [Encode] makes a block of a Go struct and [Decode] reads one back. Decode accepts only bytes that Encode
// would have written for the same value, so a node has one encoding and its CID is a function of its
// meaning. Memory is bounded by the size of the block, which is at most [MaxSize].
package dagcbor

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// ErrFormat says that bytes are not of the format they claim, or not in its canonical form.
var ErrFormat = errors.New("malformed")

// MaxSize is the largest node in bytes; the limit of blocks in IPFS at large is 2 MiB.
const MaxSize = 1 << 20

const (
	linkTag     = 42
	maxElements = 1 << 20 // an array element takes a byte, so no node of MaxSize has more
)

var prefix = cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_256, MhLength: -1}

var encMode, decMode = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.EncOptions{
		Sort:          cbor.SortLengthFirst,
		ShortestFloat: cbor.ShortestFloatNone,
		IndefLength:   cbor.IndefLengthForbidden,
		NilContainers: cbor.NilContainerAsEmpty,
	}.EncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		MaxNestedLevels:   16,
		MaxArrayElements:  maxElements,
		MaxMapPairs:       maxElements,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}

// Raw is an encoded value inside another.
type Raw = cbor.RawMessage

// Bytes is a string that is encoded as a byte string, for names that need not be UTF-8.
type Bytes = cbor.ByteString

// Marshal encodes v, without a limit on its size.
func Marshal(v any) (Raw, error) {
	b, err := encMode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode dag-cbor: %w", err)
	}
	return b, nil
}

// Encode makes a block of v; it is refused when it would be larger than [MaxSize].
func Encode(v any) (blocks.Block, error) {
	b, err := Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("node of %d bytes is larger than %d", len(b), MaxSize)
	}
	c, err := prefix.Sum(b)
	if err != nil {
		return nil, fmt.Errorf("hash dag-cbor: %w", err)
	}
	return blocks.NewBlockWithCid(b, c)
}

// Decode reads a block that [Encode] wrote into the struct v points to. All errors wrap [ErrFormat].
func Decode(b blocks.Block, v any) error {
	if codec := b.Cid().Prefix().Codec; codec != cid.DagCBOR {
		return fmt.Errorf("decode %s: codec %#x is not dag-cbor: %w", b.Cid(), codec, ErrFormat)
	}
	if err := Unmarshal(b.RawData(), v); err != nil {
		return fmt.Errorf("decode %s: %w", b.Cid(), err)
	}
	return nil
}

// Unmarshal reads bytes that [Marshal] wrote. All errors wrap [ErrFormat].
func Unmarshal(data []byte, v any) error {
	if len(data) > MaxSize {
		return fmt.Errorf("node of %d bytes is larger than %d: %w", len(data), MaxSize, ErrFormat)
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	again, err := encMode.Marshal(v)
	if err != nil || !bytes.Equal(again, data) {
		return fmt.Errorf("not canonical dag-cbor: %w", ErrFormat)
	}
	return nil
}

// Link is a CID inside a node; the undefined CID is null.
type Link struct{ cid.Cid }

// MarshalCBOR writes tag 42 around a zero byte and the CID.
func (l Link) MarshalCBOR() ([]byte, error) {
	if !l.Defined() {
		return []byte{0xf6}, nil
	}
	return encMode.Marshal(cbor.Tag{Number: linkTag, Content: append([]byte{0}, l.Bytes()...)})
}

// UnmarshalCBOR reads what MarshalCBOR writes.
func (l *Link) UnmarshalCBOR(data []byte) error {
	if bytes.Equal(data, []byte{0xf6}) {
		*l = Link{}
		return nil
	}
	var t cbor.RawTag
	if err := decMode.Unmarshal(data, &t); err != nil {
		return err
	}
	var b []byte
	if err := decMode.Unmarshal(t.Content, &b); err != nil {
		return err
	}
	if t.Number != linkTag || len(b) < 2 || b[0] != 0 {
		return errors.New("not a link")
	}
	c, err := cid.Cast(b[1:])
	if err != nil {
		return err
	}
	*l = Link{c}
	return nil
}

// HasKind reports whether data is a map whose "kind" begins with prefix. It looks no further: the rest may be
// of a format that is not known here.
func HasKind(data []byte, prefix string) bool {
	if len(data) > MaxSize {
		return false
	}
	var w struct {
		Kind string `cbor:"kind"`
	}
	lenient, err := cbor.DecOptions{MaxNestedLevels: 64, IndefLength: cbor.IndefLengthForbidden}.DecMode()
	return err == nil && lenient.Unmarshal(data, &w) == nil && strings.HasPrefix(w.Kind, prefix)
}
