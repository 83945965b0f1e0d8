package lease

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/dagcbor"
)

const (
	messageKind = "volary/leases/1"
	// MaxMessage is the largest message in bytes.
	MaxMessage = 256 << 10
	// MaxHost is the longest name of a machine in bytes.
	MaxHost = 64

	maxPeer = 64 // bytes of a peer ID
	maxTerm = math.MaxInt64
)

// ErrFormat says that bytes are no message of this protocol.
var ErrFormat = errors.New("malformed")

// message is all that a host says.
type message struct {
	peer     peer.ID
	counter  uint64
	duration time.Duration
	host     string
	claims   map[ipns.Name]claim
}

type wireMessage struct {
	Kind      string      `cbor:"kind"`
	Peer      []byte      `cbor:"peer"`
	Counter   uint64      `cbor:"counter"`
	Duration  uint64      `cbor:"duration"` // in milliseconds
	Host      string      `cbor:"host"`
	Volumes   []wireClaim `cbor:"volumes"` // in the order of their keys
	Signature []byte      `cbor:"signature"`
}

type wireClaim struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte   // binary IPNS name
	Term  uint64
	Asked bool

	Ending bool
}

func (m message) encode(n *namespace.Namespace) ([]byte, error) {
	w := wireMessage{Kind: messageKind, Peer: []byte(m.peer), Counter: m.counter, Duration: uint64(m.duration.Milliseconds()), Host: m.host}
	for v, c := range m.claims {
		w.Volumes = append(w.Volumes, wireClaim{Key: []byte(v.Peer()), Term: c.term, Asked: c.asked, Ending: c.ending})
	}
	slices.SortFunc(w.Volumes, func(a, b wireClaim) int { return bytes.Compare(a.Key, b.Key) })
	signed, err := dagcbor.Marshal(w)
	if err != nil {
		return nil, err
	}
	if w.Signature, err = n.Sign(messageKind, signed); err != nil {
		return nil, err
	}
	data, err := dagcbor.Marshal(w)
	if err == nil && len(data) > MaxMessage {
		err = fmt.Errorf("leases of %d bytes, at most %d are allowed", len(data), MaxMessage)
	}
	return data, err
}

// decode reads what encode wrote, and checks that the namespace signed it.
func decode(n *namespace.Namespace, data []byte) (message, error) {
	if len(data) > MaxMessage {
		return message{}, fmt.Errorf("%d bytes, at most %d are allowed: %w", len(data), MaxMessage, ErrFormat)
	}
	var w wireMessage
	if err := dagcbor.Unmarshal(data, &w); err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	signature := w.Signature
	w.Signature = nil
	signed, err := dagcbor.Marshal(w)
	if err != nil {
		return message{}, err
	}
	if err := n.CheckSignature(messageKind, signed, signature); err != nil {
		return message{}, err
	}
	return w.message()
}

// message checks all but the signature, which costs less.
func (w *wireMessage) message() (message, error) {
	refuse := func(format string, args ...any) (message, error) {
		return message{}, fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrFormat)
	}
	switch {
	case w.Kind != messageKind:
		return refuse("kind %.80q is not known", w.Kind)
	case len(w.Peer) > maxPeer:
		return refuse("peer ID of %d bytes", len(w.Peer))
	case w.Duration < uint64(MinDuration.Milliseconds()) || w.Duration > uint64(MaxDuration.Milliseconds()):
		return refuse("duration of %d ms", w.Duration)
	case w.Host != plainHost(w.Host):
		return refuse("host name %.80q", w.Host)
	case len(w.Volumes) > MaxVolumes:
		return refuse("%d volumes, at most %d are allowed", len(w.Volumes), MaxVolumes)
	}
	id, err := peer.IDFromBytes(w.Peer)
	if err != nil {
		return refuse("peer ID: %v", err)
	}
	m := message{
		peer: id, counter: w.Counter, duration: time.Duration(w.Duration) * time.Millisecond, host: w.Host,
		claims: make(map[ipns.Name]claim, len(w.Volumes)),
	}
	for i, c := range w.Volumes {
		if i > 0 && bytes.Compare(w.Volumes[i-1].Key, c.Key) >= 0 {
			return refuse("volumes are not in order")
		}
		if c.Term > maxTerm || c.Asked && (c.Term > 0 || c.Ending) {
			return refuse("term %d", c.Term)
		}
		v, err := volumeOf(c.Key)
		if err != nil {
			return message{}, err
		}
		m.claims[v] = claim{c.Term, c.Asked, c.Ending}
	}
	return m, nil
}

// keySize is the size of the binary IPNS name of an Ed25519 key.
const keySize = 38

func volumeOf(key []byte) (ipns.Name, error) {
	if len(key) != keySize {
		return ipns.Name{}, fmt.Errorf("volume's key of %d bytes: %w", len(key), ErrFormat)
	}
	id, err := peer.IDFromBytes(key)
	if err != nil {
		return ipns.Name{}, fmt.Errorf("volume's key: %w: %w", ErrFormat, err)
	}
	v := ipns.NameFromPeer(id)
	if err := namespace.CheckVolume(v); err != nil {
		return ipns.Name{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return v, nil
}

// plainHost is a machine's name as people's terminals may see it.
func plainHost(name string) string {
	var plain []byte
	for i := range len(name) {
		if c := name[i]; c > ' ' && c < 0x7f && len(plain) < MaxHost {
			plain = append(plain, c)
		}
	}
	return string(plain)
}
