package gossip

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipns"

	"github.com/volary/volary/head/table"
)

const (
	// digestSize is the size of a digest: the first bytes of SHA-256.
	digestSize = 16
	// buckets is into how many parts volumes are cut, by the first byte of their place.
	buckets = 256
	// restAfter is how many times as long as it took lies between two times that the index is made.
	restAfter = 10
)

// digest is of one volume's state: its name, its binding and its heads; or of several digests.
type digest [digestSize]byte

// entry is a volume in the index.
type entry struct {
	place  uint64 // of the volume among all, the same on every host: the first bytes of SHA-256 of its key
	volume ipns.Name
	state  digest
}

// index is what two hosts compare. It does not change.
type index struct {
	entries []entry // in the order of their places
	buckets [buckets]digest
	root    digest
}

func placeOf(volume ipns.Name) uint64 {
	sum := sha256.Sum256([]byte(volume.Peer()))
	return binary.BigEndian.Uint64(sum[:])
}

// stateOf is the digest of a volume. Its tips are a set: which one counts follows from them. A head is told by its
// commit: two records of one commit say the same.
func stateOf(v table.Volume) digest {
	var commits [][]byte
	for _, tip := range v.Tips() {
		commits = append(commits, tip.Commit.Bytes())
	}
	slices.SortFunc(commits, bytes.Compare)
	h := sha256.New()
	for _, part := range append([][]byte{[]byte(v.Key.Peer()), v.Binding.Data}, commits...) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return digest(h.Sum(nil)[:digestSize])
}

// newIndex makes an index. A volume without a binding cannot be told.
func newIndex(vs []table.Volume) *index {
	x := &index{entries: make([]entry, 0, len(vs))}
	for _, v := range vs {
		if v.Binding.Data != nil {
			x.entries = append(x.entries, entry{placeOf(v.Key), v.Key, stateOf(v)})
		}
	}
	slices.SortFunc(x.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.place, b.place), bytes.Compare([]byte(a.volume.Peer()), []byte(b.volume.Peer())))
	})
	all := sha256.New()
	for i := range x.buckets {
		if in := x.between(span(i, i)); len(in) > 0 {
			h := sha256.New()
			for _, e := range in {
				h.Write(e.state[:])
			}
			x.buckets[i] = digest(h.Sum(nil)[:digestSize])
		}
		all.Write(x.buckets[i][:])
	}
	x.root = digest(all.Sum(nil)[:digestSize])
	return x
}

// span is the places in buckets first to last.
func span(first, last int) (from, to uint64) {
	return uint64(first) << 56, uint64(last)<<56 | math.MaxUint64>>8
}

// between returns the volumes with places from and to, and those between.
func (x *index) between(from, to uint64) []entry {
	first := func(place uint64) int {
		i, _ := slices.BinarySearchFunc(x.entries, place, func(e entry, p uint64) int { return cmp.Compare(e.place, p) })
		return i
	}
	end := len(x.entries)
	if to < math.MaxUint64 {
		end = first(to + 1)
	}
	return x.entries[first(from):end]
}

// keptIndex is the index of what is known, made again when that has changed.
type keptIndex struct {
	known Known

	mu       sync.Mutex
	index    *index
	revision uint64
	next     time.Time // before it the index is not made again
}

// get returns an index, and until when it lacks what was learned since it was made; that is zero if it lacks nothing.
func (k *keptIndex) get() (_ *index, lacks time.Time, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	revision, err := k.known.Revision()
	if err != nil {
		return nil, lacks, err
	}
	began := time.Now()
	switch {
	case k.index != nil && revision == k.revision:
		return k.index, lacks, nil
	case k.index != nil && began.Before(k.next):
		return k.index, k.next, nil
	}
	vs, err := k.known.Volumes()
	if err != nil {
		return nil, lacks, fmt.Errorf("list what is known: %w", err)
	}
	k.index, k.revision = newIndex(vs), revision
	k.next = time.Now().Add(restAfter * time.Since(began))
	return k.index, lacks, nil
}

// expire has the index made again when it is asked for next.
func (k *keptIndex) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next = time.Time{}
}
