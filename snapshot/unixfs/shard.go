package unixfs

import (
	"context"
	"math/bits"
	"strconv"
	"strings"

	"github.com/spaolacci/murmur3"

	"github.com/volary/volary/snapshot/meta"
)

const hashBits = 64 // of a name; a shard at level n is chosen by the n-th digit of the hash

// maxFanout is the widest shard that other implementations read.
const maxFanout = 1024

func hashName(name string) uint64 { return murmur3.Sum64([]byte(name)) }

// shard is one checked node of a sharded directory.
type shard struct {
	fsNode
	width int // bits of a digit
	pad   int // characters of the position before each link's name
	level int
	path  uint64 // the digits that led here, in the highest bits
}

// position is the digit of a hash that chooses among the shard's children.
func (s shard) position(hash uint64) int {
	return int(hash << (s.level * s.width) >> (hashBits - s.width))
}

// holds reports whether a name with this hash may stand in the shard.
func (s shard) holds(hash uint64) bool {
	return s.level == 0 || hash>>(hashBits-s.level*s.width) == s.path>>(hashBits-s.level*s.width)
}

// newShard checks everything about a node but the hashes of the names in it.
func newShard(n fsNode, level int, path uint64) (shard, error) {
	s := shard{fsNode: n, level: level, path: path}
	switch {
	case n.typ != typeShard:
		return s, malformed("%s is not a shard", n.cid)
	case n.hash != murmur3Code:
		return s, malformed("shard by an unknown hash %#x", n.hash)
	case n.fanout < 8 || n.fanout > maxFanout || bits.OnesCount64(n.fanout) != 1:
		return s, malformed("shard of %d children", n.fanout)
	case level > 0 && len(n.links) == 0:
		return s, malformed("empty shard below another")
	}
	s.width = bits.TrailingZeros64(n.fanout)
	s.pad = len(strconv.FormatUint(n.fanout-1, 16))
	if (level+1)*s.width > hashBits {
		return s, malformed("shards nested deeper than the hash of a name is long")
	}
	return s, s.checkPositions()
}

// checkPositions refuses links that are not where the bitmap of the shard says, or not in ascending order.
func (s shard) checkPositions() error {
	if len(s.data) > int(s.fanout)/8 {
		return malformed("bitmap of %d bytes in a shard of %d children", len(s.data), s.fanout)
	}
	set := 0
	for _, b := range s.data {
		set += bits.OnesCount8(b)
	}
	if set != len(s.links) {
		return malformed("shard of %d links has a bitmap of %d", len(s.links), set)
	}
	last := -1
	for _, l := range s.links {
		pos, err := s.linkPosition(l.Name)
		switch {
		case err != nil:
			return err
		case pos <= last:
			return malformed("links of a shard out of order")
		case len(s.data) <= pos/8 || s.data[len(s.data)-1-pos/8]>>(pos%8)&1 == 0:
			return malformed("link of a shard is not in its bitmap")
		}
		last = pos
	}
	return nil
}

// linkPosition reads the position in hexadecimal that a link's name starts with.
func (s shard) linkPosition(name string) (int, error) {
	if len(name) < s.pad || strings.ToUpper(name[:s.pad]) != name[:s.pad] {
		return 0, malformed("link of a shard without a position")
	}
	pos, err := strconv.ParseUint(name[:s.pad], 16, 16)
	if err != nil || pos >= s.fanout {
		return 0, malformed("link of a shard without a position")
	}
	return int(pos), nil
}

// entry returns the directory entry in a link, or false if the link is to a further shard. A name must stand
// where its hash says; so no two shards hold the same name, and none is visited in vain.
func (s shard) entry(l Child, pos int) (Child, bool, error) {
	name := l.Name[s.pad:]
	if name == "" {
		return Child{}, false, nil
	}
	if err := meta.CheckName(name); err != nil {
		return Child{}, false, err
	}
	if h := hashName(name); !s.holds(h) || s.position(h) != pos {
		return Child{}, false, malformed("name %q is not in the shard of its hash", name)
	}
	return Child{Name: strings.Clone(name), CID: l.CID, Tsize: l.Tsize}, true, nil
}

// below reads the shard that a link at pos leads to.
func (s shard) below(ctx context.Context, b meta.Getter, l Child, pos int) (shard, error) {
	n, err := get(ctx, b, l.CID)
	if err != nil {
		return shard{}, err
	}
	if n.fanout != s.fanout {
		return shard{}, malformed("shards of %d and %d children in one directory", s.fanout, n.fanout)
	}
	return newShard(n, s.level+1, s.path|uint64(pos)<<(hashBits-(s.level+1)*s.width))
}

func shardChildren(ctx context.Context, b meta.Getter, root fsNode) ([]Child, error) {
	s, err := newShard(root, 0, 0)
	if err != nil {
		return nil, err
	}
	cs, err := appendShard(ctx, b, nil, s)
	if err != nil {
		return nil, err
	}
	return cs, sortUnique(cs)
}

func appendShard(ctx context.Context, b meta.Getter, cs []Child, s shard) ([]Child, error) {
	for _, l := range s.links {
		pos, err := s.linkPosition(l.Name)
		if err != nil {
			return nil, err
		}
		c, is, err := s.entry(l, pos)
		if err != nil {
			return nil, err
		}
		if is {
			cs = append(cs, c)
			continue
		}
		sub, err := s.below(ctx, b, l, pos)
		if err != nil {
			return nil, err
		}
		if cs, err = appendShard(ctx, b, cs, sub); err != nil {
			return nil, err
		}
	}
	return cs, nil
}

func findInShard(ctx context.Context, b meta.Getter, root fsNode, name string) (Child, bool, error) {
	s, err := newShard(root, 0, 0)
	hash := hashName(name)
	for err == nil {
		pos := s.position(hash)
		i := 0
		for ; i < len(s.links); i++ {
			if at, err := s.linkPosition(s.links[i].Name); err != nil || at == pos {
				break
			}
		}
		if i == len(s.links) {
			return Child{}, false, nil
		}
		c, is, err := s.entry(s.links[i], pos)
		if err != nil || is {
			return c, err == nil && c.Name == name, err
		}
		if s, err = s.below(ctx, b, s.links[i], pos); err != nil {
			return Child{}, false, err
		}
	}
	return Child{}, false, err
}
