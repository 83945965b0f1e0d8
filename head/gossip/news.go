package gossip

import (
	"errors"
	"fmt"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/dagcbor"
)

const (
	newsKind = "volary/news/1"
	// MaxNews is the largest message in bytes.
	MaxNews = 2 << 10
)

// ErrFormat says that bytes are no message of this protocol.
var ErrFormat = errors.New("malformed")

// news is what one message says: by what name a volume goes, and a head of it unless that is zero.
type news struct {
	binding namespace.Binding
	head    head.Head
}

type wireNews struct {
	Kind    string `cbor:"kind"`
	Binding []byte `cbor:"binding"`
	Record  []byte `cbor:"record"`
}

func (n news) encode() ([]byte, error) {
	data, err := dagcbor.Marshal(wireNews{Kind: newsKind, Binding: n.binding.Data, Record: n.head.Record})
	if err == nil && len(data) > MaxNews {
		err = fmt.Errorf("%d bytes, at most %d are allowed", len(data), MaxNews)
	}
	if err != nil {
		return nil, fmt.Errorf("encode news of %q: %w", n.binding.Name, err)
	}
	return data, nil
}

// decodeNews reads what encode wrote, and believes what is signed. verify is [namespace.Namespace.Verify].
func decodeNews(data []byte, verify func([]byte) (namespace.Binding, error)) (n news, err error) {
	if len(data) > MaxNews {
		return n, fmt.Errorf("news of %d bytes, at most %d are allowed: %w", len(data), MaxNews, ErrFormat)
	}
	var w wireNews
	if err := dagcbor.Unmarshal(data, &w); err != nil {
		return n, fmt.Errorf("read news: %w: %w", ErrFormat, err)
	}
	if w.Kind != newsKind {
		return n, fmt.Errorf("read news: kind %.80q is not known: %w", w.Kind, ErrFormat)
	}
	if n.binding, err = verify(w.Binding); err != nil {
		return n, fmt.Errorf("read news: %w", err)
	}
	if len(w.Record) > 0 {
		if n.head, err = head.Verify(n.binding.Volume, w.Record); err != nil {
			return n, fmt.Errorf("read news: %w", err)
		}
	}
	return n, nil
}

// together makes of messages what a table learns in one step.
func together(all []news) (t table.News) {
	for _, n := range all {
		t.Bindings = append(t.Bindings, n.binding)
		if n.head.Record != nil {
			t.Heads = append(t.Heads, n.head)
		}
	}
	return t
}
