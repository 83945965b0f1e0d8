package p2p

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-varint"
)

const (
	maxRecord      = 2 << 10 // bytes of a record
	maxRecordAddrs = 16      // of a peer
)

// ErrFormat says that bytes are not of the format they should be of.
var ErrFormat = errors.New("malformed")

// addresses is what a peer has signed of itself: libp2p's peer record in its envelope.
type addresses struct {
	id    peer.ID
	seq   uint64
	addrs []ma.Multiaddr // those that there is a transport for
	raw   []byte
}

// sign makes the record of a peer with its key.
func sign(key crypto.PrivKey, seq uint64, addrs []ma.Multiaddr) (addresses, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return addresses{}, fmt.Errorf("sign addresses: %w", err)
	}
	addrs = addrs[:min(len(addrs), maxRecordAddrs)]
	envelope, err := record.Seal(&peer.PeerRecord{PeerID: id, Addrs: addrs, Seq: seq}, key)
	if err != nil {
		return addresses{}, fmt.Errorf("sign addresses: %w", err)
	}
	raw, err := envelope.Marshal()
	if err != nil || len(raw) > maxRecord {
		return addresses{}, fmt.Errorf("sign addresses: %d bytes: %w", len(raw), errors.Join(ErrFormat, err))
	}
	return addresses{id, seq, addrs, raw}, nil
}

// verify reads a record that its peer has signed.
func verify(raw []byte) (addresses, error) {
	if len(raw) > maxRecord {
		return addresses{}, fmt.Errorf("record of %d bytes: %w", len(raw), ErrFormat)
	}
	envelope, content, err := record.ConsumeEnvelope(raw, peer.PeerRecordEnvelopeDomain)
	if err != nil {
		return addresses{}, fmt.Errorf("read a record: %w: %w", ErrFormat, err)
	}
	r, is := content.(*peer.PeerRecord)
	if !is || !r.PeerID.MatchesPublicKey(envelope.PublicKey) {
		return addresses{}, fmt.Errorf("record is not signed by its peer: %w", ErrFormat)
	}
	if len(r.Addrs) > maxRecordAddrs {
		return addresses{}, fmt.Errorf("record of %s has %d addresses: %w", r.PeerID, len(r.Addrs), ErrFormat)
	}
	if again, err := envelope.Marshal(); err != nil || !bytes.Equal(again, raw) {
		return addresses{}, fmt.Errorf("record of %s is not as it is encoded here: %w", r.PeerID, ErrFormat)
	}
	usable := slices.DeleteFunc(slices.Clone(r.Addrs), func(a ma.Multiaddr) bool { return checkTransport(a, false, false) != nil })
	return addresses{r.PeerID, r.Seq, usable, bytes.Clone(raw)}, nil
}

// encodeRecords is their number and each of them with its length before it.
func encodeRecords(all []addresses) []byte {
	out := varint.ToUvarint(uint64(len(all)))
	for _, r := range all {
		out = append(append(out, varint.ToUvarint(uint64(len(r.raw)))...), r.raw...)
	}
	return out
}

// reader reads bytes one by one as well.
type reader interface {
	io.Reader
	io.ByteReader
}

// readRecords reads at most that many records.
func readRecords(in reader, most int) ([]addresses, error) {
	n, err := varint.ReadUvarint(in)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	if n > uint64(most) {
		return nil, fmt.Errorf("%d records, of at most %d: %w", n, most, ErrFormat)
	}
	var all []addresses
	for range n {
		size, err := varint.ReadUvarint(in)
		if err != nil {
			return nil, fmt.Errorf("read records: %w", err)
		}
		if size > maxRecord {
			return nil, fmt.Errorf("record of %d bytes: %w", size, ErrFormat)
		}
		raw := make([]byte, size)
		if _, err := io.ReadFull(in, raw); err != nil {
			return nil, fmt.Errorf("read records: %w", err)
		}
		r, err := verify(raw)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// decodeRecords reads bytes that are records and nothing else.
func decodeRecords(b []byte, most int) ([]addresses, error) {
	in := bytes.NewReader(b)
	all, err := readRecords(in, most)
	if err == nil && in.Len() > 0 {
		err = fmt.Errorf("%d bytes follow the records: %w", in.Len(), ErrFormat)
	}
	return all, err
}
