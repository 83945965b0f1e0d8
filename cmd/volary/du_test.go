package main

import (
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

func TestOfLeavesLinksSayTheSizeAsFarAsThatCanBe(t *testing.T) {
	inline, err := cid.V1Builder{Codec: cid.Raw, MhType: mh.IDENTITY, MhLength: -1}.Sum([]byte("inline"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(seed uint64) cid.Cid { return blockstest.Random(seed, 1, 10)[0].Cid() }
	for name, c := range map[string]struct {
		link     format.Link
		believed bool
	}{
		"a leaf":            {format.Link{Cid: leaf(1), Size: 10}, true},
		"the largest":       {format.Link{Cid: leaf(2), Size: snapshot.MaxBlockSize}, true},
		"nothing":           {format.Link{Cid: leaf(3)}, false},
		"more than can be":  {format.Link{Cid: leaf(4), Size: snapshot.MaxBlockSize + 1}, false},
		"no leaf":           {format.Link{Cid: cid.NewCidV1(cid.DagProtobuf, leaf(5).Hash()), Size: 10}, false},
		"what is in its ID": {format.Link{Cid: inline, Size: 1000}, false},
	} {
		t.Run(name, func(t *testing.T) {
			node := new(merkledag.ProtoNode)
			if err := node.AddRawLink("", &c.link); err != nil {
				t.Fatal(err)
			}
			l := linked{sizes: map[cid.Cid]uint64{}}
			l.learn(node)
			if n, believed := l.size(c.link.Cid); believed != c.believed || believed && n != c.link.Size {
				t.Errorf("%d, %v", n, believed)
			}
		})
	}
}
