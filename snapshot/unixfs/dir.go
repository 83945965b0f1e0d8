package unixfs

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/volary/volary/snapshot/meta"
)

// WriteDir stores a directory of the given entries, which are in byte order of their names. It is one block
// unless that would be larger than 256 KiB; then it is sharded by the hashes of the names.
func WriteDir(ctx context.Context, b meta.Putter, entries []Child) (Child, error) {
	d := fsData{typ: typeDirectory}
	size := len(encode(nil, appendData(nil, d)))
	for i, e := range entries {
		if err := meta.CheckName(e.Name); err != nil {
			return Child{}, err
		}
		if i > 0 && entries[i-1].Name >= e.Name {
			return Child{}, malformed("name %q does not come after %q", e.Name, entries[i-1].Name)
		}
		size += linkSize(len(e.Name), e.CID.ByteLen(), e.Tsize)
	}
	if size <= shardSize {
		return writeNode(ctx, b, entries, d)
	}
	hashed := make([]hashedEntry, len(entries))
	for i := range entries {
		hashed[i] = hashedEntry{hash: hashName(entries[i].Name), entry: &entries[i]}
	}
	slices.SortFunc(hashed, func(x, y hashedEntry) int { return cmp.Compare(x.hash, y.hash) })
	return writeShard(ctx, b, hashed, 0)
}

type hashedEntry struct {
	hash  uint64
	entry *Child
}

// writeShard stores the entries, which share the digits of their hashes before the given level and are in
// order of the hashes: those alone in their digit as links, the others as further shards.
func writeShard(ctx context.Context, b meta.Putter, entries []hashedEntry, level int) (Child, error) {
	const width = 8 // bits of a digit at a fanout of 256
	if (level+1)*width > hashBits {
		return Child{}, fmt.Errorf("names %q and %q cannot be in one directory of UnixFS: their hashes are equal",
			entries[0].entry.Name, entries[1].entry.Name)
	}
	var bitmap [fanout / 8]byte
	links := make([]Child, 0, min(len(entries), fanout))
	for len(entries) > 0 {
		digit := byte(entries[0].hash >> (hashBits - (level+1)*width))
		n := 1
		for n < len(entries) && byte(entries[n].hash>>(hashBits-(level+1)*width)) == digit {
			n++
		}
		link, name := *entries[0].entry, entries[0].entry.Name
		if n > 1 {
			var err error
			if link, err = writeShard(ctx, b, entries[:n], level+1); err != nil {
				return Child{}, err
			}
			name = ""
		}
		link.Name = fmt.Sprintf("%02X", digit) + name
		links = append(links, link)
		bitmap[len(bitmap)-1-int(digit)/8] |= 1 << (digit % 8)
		entries = entries[n:]
	}
	first := slices.IndexFunc(bitmap[:], func(b byte) bool { return b != 0 })
	return writeNode(ctx, b, links, fsData{typ: typeShard, data: bitmap[first:], hash: murmur3Code, fanout: fanout})
}
