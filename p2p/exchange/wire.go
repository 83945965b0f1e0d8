package exchange

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-varint"

	"github.com/volary/volary/snapshot"
)

// Protocol is that of the streams on which hosts ask each other for blocks. One who asks sends a list of CIDs and
// closes its side; the answers come in the same order: a block, or that it is not there. An answer may end early, once
// it is large enough; what it does not speak of can be asked for again.
const Protocol = "/volary/blocks/1"

const (
	maxAsked = 64  // CIDs of a request
	maxCID   = 128 // bytes of a CID
	// enough is the size in bytes at which an answer ends. It holds no more than that and one block.
	enough    = 4 << 20
	maxAnswer = enough + snapshot.MaxBlockSize + maxAsked*headerSize
	// headerSize is that of the number before each block: 0 for one that is absent, else its size plus 1, big-endian.
	headerSize = 4
	// maxRequest is the most that a request has, in bytes.
	maxRequest = 1 + maxAsked*(2+maxCID)
)

// endOfAnswer is behind the answers of a lane, which goes on: in the place of a header, it says that there is none.
var endOfAnswer = []byte{0xff, 0xff, 0xff, 0xff}

var (
	errRequest = errors.New("malformed request for blocks")
	errEnd     = errors.New("end of the answer")
)

// encodeRequest encodes a list of 1 to maxAsked CIDs: its length, and each with its own.
func encodeRequest(cs []cid.Cid) []byte {
	b := varint.ToUvarint(uint64(len(cs)))
	for _, c := range cs {
		b = append(b, varint.ToUvarint(uint64(c.ByteLen()))...)
		b = append(b, c.Bytes()...)
	}
	return b
}

// encodeLaneRequest is a request before which its length is.
func encodeLaneRequest(cs []cid.Cid) []byte {
	b := encodeRequest(cs)
	return append(varint.ToUvarint(uint64(len(b))), b...)
}

// readLaneRequest reads what encodeLaneRequest made.
func readLaneRequest(r *bufio.Reader) ([]cid.Cid, error) {
	n, err := readLength(r, maxRequest)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	cs, err := readRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil && !errors.Is(err, errRequest) {
		return nil, fmt.Errorf("%w: %w", errRequest, err) // all of it is there
	}
	return cs, err
}

// readRequest reads what encodeRequest made, up to its end. Errors that are not of r wrap errRequest.
func readRequest(r *bufio.Reader) ([]cid.Cid, error) {
	n, err := readLength(r, maxAsked)
	if err != nil {
		return nil, err
	}
	cs := make([]cid.Cid, n)
	var buf [maxCID]byte
	for i := range cs {
		n, err := readLength(r, maxCID)
		if err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return nil, err
		}
		if cs[i], err = cid.Cast(buf[:n]); err != nil {
			return nil, fmt.Errorf("%w: %w", errRequest, err)
		}
		if !cs[i].Defined() || cs[i].ByteLen() != n {
			return nil, fmt.Errorf("%w: CID %d is not one", errRequest, i)
		}
	}
	switch _, err := r.ReadByte(); err {
	case io.EOF:
		return cs, nil
	case nil:
		return nil, fmt.Errorf("%w: goes on after its end", errRequest)
	default:
		return nil, err
	}
}

// readLength reads a number from 1 to most.
func readLength(r io.ByteReader, most int) (int, error) {
	n, err := varint.ReadUvarint(r)
	switch {
	case errors.Is(err, varint.ErrNotMinimal), errors.Is(err, varint.ErrOverflow):
		return 0, fmt.Errorf("%w: %w", errRequest, err)
	case err != nil:
		return 0, err
	case n == 0 || n > uint64(most):
		return 0, fmt.Errorf("%w: %d is not from 1 to %d", errRequest, n, most)
	}
	return int(n), nil
}

func appendHeader(b []byte, size int, there bool) []byte {
	if !there {
		return binary.BigEndian.AppendUint32(b, 0)
	}
	return binary.BigEndian.AppendUint32(b, uint32(size)+1)
}

// readHeader reads how large the next block is. The error is io.EOF where what is read ends between blocks, and errEnd
// where the answer does.
func readHeader(r io.Reader) (size int, there bool, _ error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, false, err
	}
	switch n := binary.BigEndian.Uint32(h[:]); {
	case n == 0:
		return 0, false, nil
	case n == math.MaxUint32:
		return 0, false, errEnd
	case n-1 > snapshot.MaxBlockSize:
		return 0, false, fmt.Errorf("a block of %d bytes, more than %d", n-1, snapshot.MaxBlockSize)
	default:
		return int(n - 1), true, nil
	}
}
