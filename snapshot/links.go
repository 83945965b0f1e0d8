package snapshot

import (
	"bytes"
	"fmt"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	cbg "github.com/whyrusleeping/cbor-gen"
)

// Links returns the CIDs a block links to, in their order and with repetitions. Raw blocks have none. A block
// of a codec other than raw, dag-pb and dag-cbor, or one that is malformed, is an error that wraps
// [ErrFormat]. Memory is bounded by the size of the block.
func Links(b blocks.Block) ([]cid.Cid, error) {
	switch codec := b.Cid().Prefix().Codec; codec {
	case cid.Raw:
		return nil, nil
	case cid.DagProtobuf:
		nd, err := merkledag.DecodeProtobuf(b.RawData())
		if err != nil {
			return nil, fmt.Errorf("links of %s: %w: %w", b.Cid(), ErrFormat, err)
		}
		links := make([]cid.Cid, len(nd.Links()))
		for i, l := range nd.Links() {
			links[i] = l.Cid
		}
		return links, nil
	case cid.DagCBOR:
		var links []cid.Cid
		err := cbg.ScanForLinks(bytes.NewReader(b.RawData()), func(c cid.Cid) { links = append(links, c) })
		if err != nil {
			return nil, fmt.Errorf("links of %s: %w: %w", b.Cid(), ErrFormat, err)
		}
		return links, nil
	default:
		return nil, fmt.Errorf("links of %s: unknown codec %#x: %w", b.Cid(), codec, ErrFormat)
	}
}
