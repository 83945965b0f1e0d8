package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
)

// frames are samples of all kinds.
func frames(t testing.TB) map[string]checked {
	states := bytes.Repeat([]byte("sixteen bytes..."), 2)
	return map[string]checked{
		"hello.cbor":         &hello{Kind: kindHello, Namespace: ours(t).ID(), Root: states[:digestSize]},
		"hello-buckets.cbor": &hello{Kind: kindHello, Namespace: ours(t).ID(), Root: states[:digestSize], Buckets: make([]byte, buckets*digestSize)},
		"hello-busy.cbor":    &hello{Kind: kindHello, Namespace: ours(t).ID(), Root: states[:digestSize], Busy: true},
		"have.cbor":          &have{Kind: kindHave, From: 1 << 56, To: math.MaxUint64, States: states},
		"want.cbor":          &want{Kind: kindWant, States: states},
		"told.cbor":          &told{Kind: kindNews, News: [][]byte{encoded(t, volumeAt(t, ours(t), "data", 5, "a state"))}},
	}
}

func TestFramesAreTheGoldenFiles(t *testing.T) {
	for name, f := range frames(t) {
		golden(t, name, cborOf(t, f))
	}
}

func TestTheLargestFramesFit(t *testing.T) {
	f := told{Kind: kindNews}
	for size := 0; size+MaxNews <= newsInFrame; size += MaxNews + 3 {
		f.News = append(f.News, make([]byte, MaxNews))
	}
	small := told{Kind: kindNews}
	for size := 0; size+1 <= newsInFrame; size += 1 + 3 {
		small.News = append(small.News, []byte{1})
	}
	h := have{Kind: kindHave, From: math.MaxUint64, To: math.MaxUint64, States: make([]byte, haveInFrame*digestSize)}
	for _, f := range []checked{&f, &small, &h} {
		if n := len(cborOf(t, f)); n > maxFrame {
			t.Errorf("%T of %d bytes", f, n)
		}
	}
}

func TestFramesThatMeanNothingAreRefused(t *testing.T) {
	for what, f := range map[string]checked{
		"a root that is too short":     &hello{Kind: kindHello, Root: make([]byte, 15)},
		"buckets that are too few":     &hello{Kind: kindHello, Root: make([]byte, 16), Buckets: make([]byte, 16)},
		"a greeting of another kind":   &hello{Kind: "volary/heads-hello/2", Root: make([]byte, 16)},
		"a namespace that is too long": &hello{Kind: kindHello, Root: make([]byte, 16), Namespace: string(make([]byte, 65))},
		"a range backwards":            &have{Kind: kindHave, From: 2, To: 1},
		"half a state":                 &have{Kind: kindHave, To: 1, States: make([]byte, 8)},
		"half of what is wanted":       &want{Kind: kindWant, States: make([]byte, 24)},
		"news that are too large":      &told{Kind: kindNews, News: [][]byte{make([]byte, MaxNews+1)}},
	} {
		if err := decodeFrame(cborOf(t, f), f); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want %v", what, err, ErrFormat)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, sample := range frames(f) {
		f.Add(cborOf(f, sample))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, frame := range []checked{new(hello), new(have), new(want), new(told)} {
			if err := decodeFrame(data, frame); err != nil {
				continue
			}
			if again := cborOf(t, frame); !bytes.Equal(again, data) {
				t.Errorf("%q re-encodes to %q", data, again)
			}
		}
	})
}

func TestTheSameKnowledgeInAnyOrderHasTheSameDigest(t *testing.T) {
	var vs []table.Volume
	for i := range 300 {
		n := volumeAt(t, ours(t), fmt.Sprint("v", i), 1, "a state")
		fork := volumeAt(t, ours(t), fmt.Sprint("v", i), 1, "a fork")
		vs = append(vs, table.Volume{Key: n.binding.Volume, Binding: n.binding, Head: n.head, Forks: []head.Head{fork.head}})
	}
	want := newIndex(vs)
	rand.Shuffle(len(vs), func(i, j int) { vs[i], vs[j] = vs[j], vs[i] })
	if got := newIndex(vs); got.root != want.root {
		t.Error("another order has another digest")
	}
	vs[7].Forks = nil
	got := newIndex(vs)
	if got.root == want.root {
		t.Error("a fork less has the same digest")
	}
	differ := 0
	for i := range got.buckets {
		if got.buckets[i] != want.buckets[i] {
			differ++
		}
	}
	if differ != 1 {
		t.Errorf("%d buckets differ by one volume", differ)
	}
}

func TestRangesCoverWhatDiffersAndAreShort(t *testing.T) {
	x := &index{}
	for i := range 3 * haveInFrame {
		x.entries = append(x.entries, entry{place: uint64(i/2) << 50})
	}
	theirs := make([]byte, buckets*digestSize)
	x.buckets[200], x.buckets[0] = digest{1}, digest{1} // all others are equal: empty
	x.buckets[1] = digest{1}
	covered := 0
	next := uint64(0)
	for _, r := range x.ranges(theirs) {
		if r.From < next {
			t.Errorf("range from %d begins before %d", r.From, next)
		}
		next = r.To
		in := x.between(r.From, r.To)
		if len(in) > haveInFrame+1 || len(r.States) != len(in)*digestSize {
			t.Errorf("%d states of %d volumes in a range", len(r.States)/digestSize, len(in))
		}
		covered += len(in)
	}
	from, to := span(0, 1)
	if want := len(x.between(from, to)); covered != want {
		t.Errorf("%d volumes are compared, want %d", covered, want)
	}
}

// say opens a stream as a stranger and writes bytes as they are; it returns what is answered.
func say(t *testing.T, to *member, data []byte) []byte {
	t.Helper()
	h := listening(t)
	check(t, h.Connect(t.Context(), peer.AddrInfo{ID: to.p2p.ID(), Addrs: to.p2p.Addrs()}))
	s := must(h.NewStream(network.WithNoDial(t.Context(), "test"), to.p2p.ID(), exchangeProtocol))(t)
	// The host may have refused it already.
	_, _ = s.Write(data)
	_ = s.CloseWrite()
	answer, err := io.ReadAll(s)
	if err != nil && len(answer) > maxFrame {
		t.Errorf("%d bytes were answered", len(answer))
	}
	return answer
}

func framed(t *testing.T, all ...checked) (data []byte) {
	t.Helper()
	for _, f := range all {
		raw := cborOf(t, f)
		data = append(binary.BigEndian.AppendUint32(data, uint32(len(raw))), raw...)
	}
	return data
}

func TestAHostAnswersNobodyWhoSpeaksOtherwise(t *testing.T) {
	a := newMember(t, Options{})
	known := volumeAt(t, ours(t), "known", 1, "a state")
	a.know(known)
	theirs := volumeAt(t, otherNamespace(t), "theirs", 1, "a state")
	hi := &hello{Kind: kindHello, Namespace: ours(t).ID(), Root: make([]byte, digestSize)}
	all := &have{Kind: kindHave, To: math.MaxUint64}
	for what, data := range map[string][]byte{
		"nothing":                    nil,
		"another namespace":          framed(t, &hello{Kind: kindHello, Namespace: otherNamespace(t).ID(), Root: make([]byte, digestSize)}, all),
		"an endless frame":           {0xff, 0xff, 0xff, 0xff},
		"half a frame":               framed(t, hi)[:20],
		"news that are not signed":   framed(t, hi, &told{Kind: kindNews, News: [][]byte{{1}}}, all),
		"news of another namespace":  framed(t, hi, &told{Kind: kindNews, News: [][]byte{encoded(t, theirs)}}, all),
		"something else for a frame": framed(t, hi, &want{Kind: kindWant}, all),
		"no greeting":                framed(t, all),
	} {
		if answer := say(t, a, data); bytes.Contains(answer, known.head.Record) {
			t.Errorf("%s: was told all", what)
		}
	}
	if answer := say(t, a, framed(t, hi, all)); !bytes.Contains(answer, known.head.Record) {
		t.Error("who asks is not told")
	}
	twice := say(t, a, framed(t, hi, all, all))
	if n := bytes.Count(twice, known.head.Record); n > 1 {
		t.Errorf("told %d times", n)
	}
	if vs := must(a.table.Volumes())(t); len(vs) != 1 || slices.ContainsFunc(vs, func(v table.Volume) bool { return v.Key != known.binding.Volume }) {
		t.Errorf("%d volumes are known", len(vs))
	}
}

func TestAPeerThatFallsSilentKeepsNobodyFromBeingAnswered(t *testing.T) {
	a := newMember(t, Options{})
	known := volumeAt(t, ours(t), "known", 1, "a state")
	a.know(known)
	h := listening(t)
	check(t, h.Connect(t.Context(), peer.AddrInfo{ID: a.p2p.ID(), Addrs: a.p2p.Addrs()}))
	hi := framed(t, &hello{Kind: kindHello, Namespace: ours(t).ID(), Root: make([]byte, digestSize)})
	for i := range 2 * answered {
		s := must(h.NewStream(network.WithNoDial(t.Context(), "test"), a.p2p.ID(), exchangeProtocol))(t)
		_, _ = s.Write(hi)
		w := wire{s}
		if err := w.read(new(hello)); (err == nil) != (i == 0) {
			t.Errorf("stream %d: %v", i, err)
		}
	}
	b := newMember(t, Options{})
	b.connect(a)
	b.untilAt(known)
}
