package published

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"
)

// Who subscribes to a topic asks those who are there for the record it has missed (the fetch protocol of
// specs.ipfs.tech/ipns/ipns-pubsub-router, two messages of protobuf).
const (
	fetchProtocol = protocol.ID("/libp2p/fetch/0.0.1")
	maxRequest    = 256
	fetchTime     = 10 * time.Second
	costFetch     = 5 // messages

	fieldIdentifier protowire.Number = 1 // of a request: the routing key
	fieldStatus     protowire.Number = 1 // of an answer
	fieldData       protowire.Number = 2
	statusNotFound                   = 1
)

var errRequest = errors.New("not a request for a record")

func (p *Publisher) serveFetch(s network.Stream) {
	if err := p.fetch(s); err != nil {
		p.o.Log.Debug("a record was not given to a peer", "peer", s.Conn().RemotePeer(), "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func (p *Publisher) fetch(s network.Stream) error {
	if !p.guard.Charge(s.Conn().RemotePeer(), costFetch) {
		return errors.New("it asks too often")
	}
	if err := s.SetDeadline(time.Now().Add(fetchTime)); err != nil {
		return err
	}
	name, err := readRequest(s)
	if err != nil {
		return err
	}
	var answer []byte
	if h, ok := p.published(name); ok {
		answer = protowire.AppendTag(answer, fieldData, protowire.BytesType)
		answer = protowire.AppendBytes(answer, h.Record)
	} else {
		answer = protowire.AppendTag(answer, fieldStatus, protowire.VarintType)
		answer = protowire.AppendVarint(answer, statusNotFound)
	}
	_, err = s.Write(append(binary.AppendUvarint(nil, uint64(len(answer))), answer...))
	return err
}

// readRequest reads which name is asked for. One that no volume has is zero.
func readRequest(r io.Reader) (name ipns.Name, _ error) {
	size, err := binary.ReadUvarint(oneByte{r})
	if err != nil || size > maxRequest {
		return name, fmt.Errorf("%d bytes: %w", size, errors.Join(errRequest, err))
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return name, fmt.Errorf("%w: %w", errRequest, err)
	}
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return name, errRequest
		}
		data = data[n:]
		if n = protowire.ConsumeFieldValue(field, kind, data); n < 0 {
			return name, errRequest
		}
		if field == fieldIdentifier && kind == protowire.BytesType {
			key, _ := protowire.ConsumeBytes(data)
			if name, err = ipns.NameFromRoutingKey(key); err != nil {
				return ipns.Name{}, nil
			}
		}
		data = data[n:]
	}
	return name, nil
}

// oneByte reads no more than it is asked for.
type oneByte struct{ r io.Reader }

func (o oneByte) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(o.r, b[:])
	return b[0], err
}
