package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
)

// A name is a CID taken apart without copying: hash shares its memory.
type name struct {
	hash     string // the multihash
	codec    uint64 // what the bytes are; says nothing about the bytes themselves
	code     uint64 // the hash function
	digestAt int    // where the digest begins in hash
	identity bool   // the digest is the data
}

func nameOf(c cid.Cid) (name, error) {
	if !c.Defined() {
		return name{}, fmt.Errorf("undefined CID: %w", snapshot.ErrFormat)
	}
	n := name{hash: c.KeyString(), codec: cid.DagProtobuf}
	if c.Version() != 0 {
		_, v := uvarint(n.hash)
		codec, w := uvarint(n.hash[v:])
		n.codec, n.hash = codec, n.hash[v+w:]
	}
	code, a := uvarint(n.hash)
	size, b := uvarint(n.hash[a:])
	n.code, n.digestAt = code, a+b
	if a <= 0 || b <= 0 || uint64(len(n.hash)-n.digestAt) != size {
		return name{}, fmt.Errorf("CID %s: multihash: %w", c, snapshot.ErrFormat)
	}
	n.identity = code == mh.IDENTITY
	return n, nil
}

// cid is the CID a block is listed and framed under.
func (n name) cid() cid.Cid { return cid.NewCidV1(n.codec, mh.Multihash(n.hash)) }

// verify checks that data is what the name stands for.
func (n name) verify(data []byte) error {
	digest := n.hash[n.digestAt:]
	if n.code == mh.SHA2_256 {
		sum := sha256.Sum256(data)
		if len(digest) > 0 && len(digest) <= len(sum) && string(sum[:len(digest)]) == digest {
			return nil
		}
		return snapshot.ErrDamaged
	}
	sum, err := mh.Sum(data, n.code, len(digest))
	if err != nil {
		return fmt.Errorf("hash function %#x: %w", n.code, snapshot.ErrFormat)
	}
	if string(sum) != n.hash {
		return snapshot.ErrDamaged
	}
	return nil
}

// verifiable tells whether verify can ever succeed.
func (n name) verifiable() bool {
	if n.code == mh.SHA2_256 {
		return len(n.hash)-n.digestAt <= sha256.Size && len(n.hash) > n.digestAt
	}
	_, err := mh.GetHasher(n.code)
	return err == nil
}

// uvarint is binary.Uvarint of a string.
func uvarint(s string) (uint64, int) {
	var b [binary.MaxVarintLen64]byte
	return binary.Uvarint(b[:copy(b[:], s)])
}
