// Package head is the signed statement that a volume is at a commit: an IPNS record, which any IPFS program resolves to
// the volume's files.
//
// Start with [Sign] and [Verify]. A [Head] comes from one of them, so it is always signed with the volume's key.
// [Compare] says which of two heads a volume is at; [Head.Open] reads the commit and checks that it is the one meant.
//
// It guarantees: the same commit gives the same record, whoever signs it and however often; of any heads every host
// takes the same for the newest, whatever its clock says.
package head

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipns"
	pb "github.com/ipfs/boxo/ipns/pb"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	mh "github.com/multiformats/go-multihash"
	"google.golang.org/protobuf/proto"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/dagcbor"
)

var (
	// ErrFormat says that bytes are not a head's record, or a commit is not the head's.
	ErrFormat = errors.New("malformed")
	// ErrSignature says that a record was not signed with the volume's key.
	ErrSignature = errors.New("not signed by the volume")
)

const (
	// MaxRecord is the largest record in bytes.
	MaxRecord = 512
	// MaxSequence is what an IPNS record of dag-cbor can hold.
	MaxSequence = math.MaxInt64

	// lifetime is how long a record says it is good for. Nobody asks within a namespace: a clock must not hide a volume.
	lifetime = 100
	// cacheFor is how long other IPFS programs may take what they resolved for the newest.
	cacheFor = time.Minute
	// lastYear is the last one that RFC 3339 can write.
	lastYear = 9999
)

// Head says that a volume is at a commit. It must come from Sign or Verify.
type Head struct {
	Volume    ipns.Name
	Commit    cid.Cid
	Sequence  uint64 // the commit's
	EndOfLife time.Time
	Fork      snapshot.State // the commit's
	Record    []byte         // all this as an IPNS record
}

// IsFork reports whether the commit is of a branch that lost against another one, as far as who made it knew.
func (h Head) IsFork() bool { return h.Fork.CID.Defined() }

// keyFork is the metadata of a fork's record; its value is a sequence in eight bytes, the largest first, and a CID.
const keyFork = "_fork"

func encodeFork(f snapshot.State) []byte {
	if !f.CID.Defined() {
		return nil
	}
	return append(binary.BigEndian.AppendUint64(nil, f.Sequence), f.CID.Bytes()...)
}

func decodeFork(b []byte) (f snapshot.State, err error) {
	if len(b) < 8 {
		return f, fmt.Errorf("a fork of %d bytes: %w", len(b), ErrFormat)
	}
	f.Sequence = binary.BigEndian.Uint64(b)
	f.CID, err = cid.Cast(b[8:])
	return f, err
}

// Sign makes the head of a volume's commit, made at a time, that is no fork; see [SignCommit].
func Sign(key crypto.PrivKey, commit cid.Cid, sequence uint64, made time.Time) (Head, error) {
	return SignCommit(key, commit, &snapshot.Commit{Sequence: sequence, Time: made})
}

// SignCommit makes the head of a volume's commit. All that it says is the commit's own, so that the record is the same
// whenever it is made.
func SignCommit(key crypto.PrivKey, root cid.Cid, c *snapshot.Commit) (Head, error) {
	h, err := sign(key, Head{Commit: root, Sequence: c.Sequence, EndOfLife: endOfLife(c.Time), Fork: c.Fork})
	if err != nil {
		return Head{}, fmt.Errorf("sign head %s: %w", root, err)
	}
	return h, nil
}

func sign(key crypto.PrivKey, h Head) (Head, error) {
	volume, err := namespace.NameOf(key)
	if err != nil {
		return Head{}, err
	}
	h.Volume = volume
	if err := h.check(); err != nil {
		return Head{}, err
	}
	value, err := path.NewPath(h.value())
	if err != nil {
		return Head{}, err
	}
	options := []ipns.Option{ipns.WithV1Compatibility(false), ipns.WithPublicKey(false)}
	if h.IsFork() {
		options = append(options, ipns.WithMetadata(map[string]any{keyFork: encodeFork(h.Fork)}))
	}
	record, err := ipns.NewRecord(key, value, h.Sequence, h.EndOfLife, cacheFor, options...)
	if err != nil {
		return Head{}, err
	}
	if h.Record, err = ipns.MarshalRecord(record); err != nil {
		return Head{}, err
	}
	// What others would refuse must not become a head here.
	return Verify(volume, h.Record)
}

func endOfLife(made time.Time) time.Time {
	made = made.UTC()
	if made.Year() > lastYear-lifetime {
		return time.Date(lastYear, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return made.AddDate(lifetime, 0, 0)
}

func (h Head) value() string { return "/ipfs/" + h.Commit.String() + "/tree" }

func (h Head) check() error {
	switch {
	case !isCommit(h.Commit):
		return fmt.Errorf("%s is not a commit's CID: %w", h.Commit, ErrFormat)
	case h.Fork != snapshot.State{} && (!isCommit(h.Fork.CID) || h.Fork.Sequence == 0 || h.Fork.Sequence >= h.Sequence):
		return fmt.Errorf("state %d cannot be a fork of %d, %s: %w", h.Sequence, h.Fork.Sequence, h.Fork.CID, ErrFormat)
	case h.Sequence == 0 || h.Sequence > MaxSequence:
		return fmt.Errorf("sequence %d: %w", h.Sequence, ErrFormat)
	case h.EndOfLife.Year() < 0 || h.EndOfLife.Year() > lastYear:
		return fmt.Errorf("end of life %s: %w", h.EndOfLife, ErrFormat)
	}
	return nil
}

func isCommit(c cid.Cid) bool {
	return c.Defined() && c.Prefix() == cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_256, MhLength: 32}
}

// Verify reads a volume's record. It takes only what Sign could have made, with any end of life, and does not look at
// the clock. Errors wrap [ErrFormat] or [ErrSignature].
func Verify(volume ipns.Name, record []byte) (Head, error) {
	h, err := parse(volume, record)
	if err != nil {
		return Head{}, fmt.Errorf("read a head of %s: %w", volume, err)
	}
	return h, nil
}

func parse(volume ipns.Name, record []byte) (Head, error) {
	if err := namespace.CheckVolume(volume); err != nil {
		return Head{}, errors.Join(ErrFormat, err)
	}
	if len(record) > MaxRecord {
		return Head{}, fmt.Errorf("record of %d bytes, at most %d are allowed: %w", len(record), MaxRecord, ErrFormat)
	}
	r, err := ipns.UnmarshalRecord(record)
	if err != nil {
		return Head{}, errors.Join(ErrFormat, err)
	}
	h, err := contents(volume, r)
	if err != nil {
		return Head{}, err
	}
	again, err := h.encode(record)
	if err != nil || !bytes.Equal(again, record) {
		return Head{}, fmt.Errorf("not in the one form that a head has: %w", errors.Join(ErrFormat, err))
	}
	if err := ipns.ValidateWithName(r, volume); err != nil && !errors.Is(err, ipns.ErrExpiredRecord) {
		return Head{}, errors.Join(ErrSignature, err)
	}
	h.Record = bytes.Clone(record)
	return h, nil
}

func contents(volume ipns.Name, r *ipns.Record) (h Head, err error) {
	bad := func(err error) (Head, error) { return Head{}, errors.Join(ErrFormat, err) }
	value, err := r.Value()
	if err != nil {
		return bad(err)
	}
	text, ok := strings.CutPrefix(value.String(), "/ipfs/")
	commit, ok2 := strings.CutSuffix(text, "/tree")
	if !ok || !ok2 {
		return bad(fmt.Errorf("value %.120q is not that of a head", value))
	}
	h.Volume = volume
	if h.Commit, err = cid.Decode(commit); err != nil {
		return bad(err)
	}
	if h.Sequence, err = r.Sequence(); err != nil {
		return bad(err)
	}
	if h.EndOfLife, err = r.Validity(); err != nil {
		return bad(err)
	}
	if r.MetadataExists(keyFork) {
		value, err := r.Metadata(keyFork)
		if err != nil {
			return bad(err)
		}
		b, err := value.AsBytes()
		if err != nil {
			return bad(err)
		}
		if h.Fork, err = decodeFork(b); err != nil {
			return bad(err)
		}
	}
	return h, h.check()
}

// wireRecord is the data of an IPNS record (specs.ipfs.tech/ipns/ipns-record).
type wireRecord struct {
	Value        []byte
	Sequence     uint64
	Validity     []byte
	ValidityType uint64
	TTL          uint64
	Fork         []byte `cbor:"_fork,omitempty"`
}

// encode writes the record that a head with the signature of record has.
func (h Head) encode(record []byte) ([]byte, error) {
	var signed pb.IpnsRecord
	if err := proto.Unmarshal(record, &signed); err != nil {
		return nil, err
	}
	data, err := dagcbor.Marshal(wireRecord{
		Value: []byte(h.value()), Sequence: h.Sequence, TTL: uint64(cacheFor),
		Validity: []byte(h.EndOfLife.UTC().Format(time.RFC3339Nano)), ValidityType: uint64(ipns.ValidityEOL),
		Fork: encodeFork(h.Fork),
	})
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&pb.IpnsRecord{Data: data, SignatureV2: signed.SignatureV2})
}

// Compare orders the heads of one volume, the same on every host: the larger one is where the volume is. That is the
// one whose branch is the larger [snapshot.State], then the one whose own state is. A head that comes after another is
// larger, so that a volume does not go back when a head makes way for one after it.
func Compare(a, b Head) int {
	return cmp.Or(a.branch().Compare(b.branch()), a.State().Compare(b.State()))
}

// State is the commit as a state of the volume.
func (h Head) State() snapshot.State { return snapshot.State{CID: h.Commit, Sequence: h.Sequence} }

// branch is the state by which a head counts beside others.
func (h Head) branch() snapshot.State {
	if h.IsFork() {
		return h.Fork
	}
	return h.State()
}
