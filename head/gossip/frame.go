package gossip

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/volary/volary/snapshot/dagcbor"
)

// Two hosts that compare what they know send each other these, each after its length in 32 bits.
const (
	kindHello = "volary/heads-hello/1"
	kindHave  = "volary/heads-have/1"
	kindNews  = "volary/heads-news/1"
	kindWant  = "volary/heads-want/1"

	// maxFrame is the largest frame in bytes.
	maxFrame = 64 << 10
	// newsInFrame is how many bytes of news are put into one.
	newsInFrame = maxFrame - MaxNews - 1024
	// haveInFrame is how many volumes are compared at a time.
	haveInFrame = 2048
	// frameTime is how long a frame may take.
	frameTime = 30 * time.Second
)

// hello is what each of the two says first. Buckets is empty from the one who asks, and if the roots are the same.
type hello struct {
	Kind      string `cbor:"kind"`
	Namespace string `cbor:"namespace"`
	Root      []byte `cbor:"root"`
	Buckets   []byte `cbor:"buckets"` // the digests of all buckets
	Busy      bool   `cbor:"busy"`    // ask again later
}

// have is the states of all volumes in a range of places. The answer is news of those that are not among them, and then
// want.
type have struct {
	Kind   string `cbor:"kind"`
	From   uint64 `cbor:"from"`
	To     uint64 `cbor:"to"`
	States []byte `cbor:"states"`
}

// want is which of the states in a have are to be told.
type want struct {
	Kind   string `cbor:"kind"`
	States []byte `cbor:"states"`
}

// told is messages, as they are told on the topic.
type told struct {
	Kind string   `cbor:"kind"`
	News [][]byte `cbor:"news"`
}

// digests takes digests that are next to each other apart.
func digests(data []byte) ([]digest, error) {
	if len(data)%digestSize != 0 {
		return nil, fmt.Errorf("digests of %d bytes: %w", len(data), ErrFormat)
	}
	all := make([]digest, 0, len(data)/digestSize)
	for ; len(data) > 0; data = data[digestSize:] {
		all = append(all, digest(data))
	}
	return all, nil
}

func (h *hello) check() error {
	if h.Kind != kindHello || len(h.Namespace) > 64 || len(h.Root) != digestSize || len(h.Buckets) != 0 && len(h.Buckets) != buckets*digestSize {
		return fmt.Errorf("not a greeting: %w", ErrFormat)
	}
	return nil
}

func (h *have) check() error {
	if h.Kind != kindHave || h.From > h.To || len(h.States)%digestSize != 0 {
		return fmt.Errorf("not a list of what a host has: %w", ErrFormat)
	}
	return nil
}

func (w *want) check() error {
	if w.Kind != kindWant || len(w.States)%digestSize != 0 {
		return fmt.Errorf("not a list of what a host wants: %w", ErrFormat)
	}
	return nil
}

func (t *told) check() error {
	if t.Kind != kindNews {
		return fmt.Errorf("not news: %w", ErrFormat)
	}
	for _, n := range t.News {
		if len(n) > MaxNews {
			return fmt.Errorf("news of %d bytes: %w", len(n), ErrFormat)
		}
	}
	return nil
}

// checked is a frame that says whether it means something.
type checked interface{ check() error }

func decodeFrame(data []byte, f checked) error {
	if err := dagcbor.Unmarshal(data, f); err != nil {
		return fmt.Errorf("read a frame: %w: %w", ErrFormat, err)
	}
	return f.check()
}

// wire is a stream on which frames are sent and received. It is used by one goroutine.
type wire struct {
	s network.Stream
}

// write sends a frame.
func (w wire) write(f checked) error {
	data, err := dagcbor.Marshal(f)
	if err != nil {
		return err
	}
	if len(data) > maxFrame {
		return fmt.Errorf("frame of %d bytes, at most %d are allowed", len(data), maxFrame)
	}
	if err := w.s.SetWriteDeadline(time.Now().Add(frameTime)); err != nil {
		return err
	}
	_, err = w.s.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// next receives a frame, of at most maxFrame bytes. The error is io.EOF if the other one has said all.
func (w wire) next() ([]byte, error) {
	if err := w.s.SetReadDeadline(time.Now().Add(frameTime)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(w.s, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes, at most %d are allowed: %w", n, maxFrame, ErrFormat)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(w.s, data); err != nil {
		return nil, fmt.Errorf("read a frame: %w", io.ErrUnexpectedEOF)
	}
	return data, nil
}

// read receives a frame of one kind.
func (w wire) read(f checked) error {
	data, err := w.next()
	if err != nil {
		return err
	}
	return decodeFrame(data, f)
}
