package lease

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/dagcbor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sample(t testing.TB) message {
	return message{
		peer: hostID(t, "a host"), counter: 1700000000000000000, duration: DefaultDuration, host: "db-1.example",
		claims: map[ipns.Name]claim{volume(t, "held"): {}, volume(t, "stolen"): {term: 2}, volume(t, "asked"): {asked: true}, volume(t, "ending"): {term: 1, ending: true}},
	}
}

func TestMessagesAreTheGoldenFile(t *testing.T) {
	file := filepath.Join("testdata", "golden", "leases.cbor")
	got := must(sample(t).encode(ours(t)))(t)
	if *update {
		check(t, os.WriteFile(file, got, 0o644))
	}
	want := must(os.ReadFile(file))(t)
	if !bytes.Equal(want, got) {
		t.Errorf("the format has changed:\n got %q\nwant %q", got, want)
	}
	m := must(decode(ours(t), want))(t)
	if again := must(m.encode(ours(t)))(t); !bytes.Equal(want, again) {
		t.Errorf("%+v is read from it", m)
	}
}

func TestTheLargestMessageFits(t *testing.T) {
	m := message{peer: hostID(t, strings.Repeat("p", maxPeer-2)), counter: math.MaxUint64, duration: MaxDuration, host: strings.Repeat("h", MaxHost), claims: map[ipns.Name]claim{}}
	for i := range MaxVolumes {
		key := make([]byte, keySize)
		copy(key, volume(t, "any").Peer())
		key[keySize-2], key[keySize-1] = byte(i), byte(i>>8)
		m.claims[must(volumeOf(key))(t)] = claim{term: maxTerm}
	}
	must(decode(ours(t), must(m.encode(ours(t)))(t)))(t)
}

func TestMessagesThatMeanNothingAreRefused(t *testing.T) {
	key := func(name string) []byte { return []byte(volume(t, name).Peer()) }
	for what, change := range map[string]func(*wireMessage){
		"another kind":            func(w *wireMessage) { w.Kind = "volary/leases/2" },
		"no peer":                 func(w *wireMessage) { w.Peer = nil },
		"a peer that is too long": func(w *wireMessage) { w.Peer = append([]byte{0, 126}, make([]byte, 126)...) },
		"no duration":             func(w *wireMessage) { w.Duration = 0 },
		"a long duration":         func(w *wireMessage) { w.Duration = uint64(MaxDuration.Milliseconds()) + 1 },
		"a duration past all":     func(w *wireMessage) { w.Duration = math.MaxUint64 },
		"a long host name":        func(w *wireMessage) { w.Host = strings.Repeat("h", MaxHost+1) },
		"a host name in color":    func(w *wireMessage) { w.Host = "\x1b[31m" },
		"too many volumes":        func(w *wireMessage) { w.Volumes = make([]wireClaim, MaxVolumes+1) },
		"a volume twice":          func(w *wireMessage) { w.Volumes = []wireClaim{{Key: key("v")}, {Key: key("v")}} },
		"half a key":              func(w *wireMessage) { w.Volumes = []wireClaim{{Key: key("v")[:20]}} },
		"no Ed25519 key":          func(w *wireMessage) { w.Volumes = []wireClaim{{Key: append([]byte{0x12, 0x20}, make([]byte, 36)...)}} },
		"a term past all":         func(w *wireMessage) { w.Volumes = []wireClaim{{Key: key("v"), Term: math.MaxUint64}} },
		"asking with a term":      func(w *wireMessage) { w.Volumes = []wireClaim{{Key: key("v"), Term: 1, Asked: true}} },
	} {
		w := wireMessage{Kind: messageKind, Peer: []byte(hostID(t, "a")), Counter: 1, Duration: 30000, Host: "h"}
		change(&w)
		signed := must(dagcbor.Marshal(w))(t)
		w.Signature = must(ours(t).Sign(messageKind, signed))(t)
		if _, err := decode(ours(t), must(dagcbor.Marshal(w))(t)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want %v", what, err, ErrFormat)
		}
	}
	if _, err := decode(ours(t), make([]byte, MaxMessage+1)); !errors.Is(err, ErrFormat) {
		t.Errorf("too large: %v, want %v", err, ErrFormat)
	}
	data := must(sample(t).encode(ours(t)))(t)
	for n := range data {
		if _, err := decode(ours(t), data[:n]); err == nil {
			t.Errorf("%d of %d bytes are a message", n, len(data))
		}
	}
}

func TestOnlyTheNamespaceSigns(t *testing.T) {
	reader := must(namespace.OpenReadOnly(ours(t).PublicKey()))(t)
	if _, err := sample(t).encode(reader); !errors.Is(err, namespace.ErrReadOnly) {
		t.Errorf("%v, want %v", err, namespace.ErrReadOnly)
	}
	must(decode(reader, must(sample(t).encode(ours(t)))(t)))(t)
}

func TestADurationThatIsNoneIsRefused(t *testing.T) {
	for _, d := range []time.Duration{-1, time.Millisecond, MaxDuration + 1} {
		if _, err := New(Options{Self: hostID(t, "a"), Namespace: ours(t), Duration: d}); err == nil {
			t.Errorf("%s is taken", d)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(must(sample(f).encode(ours(f)))(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		var w wireMessage
		if dagcbor.Unmarshal(data, &w) != nil {
			return
		}
		m, err := w.message()
		if err != nil {
			return
		}
		again := must(m.encode(ours(t)))(t)
		w.Signature = nil
		signed := must(dagcbor.Marshal(w))(t)
		w.Signature = must(ours(t).Sign(messageKind, signed))(t)
		if want := must(dagcbor.Marshal(w))(t); !bytes.Equal(again, want) {
			t.Errorf("%q re-encodes to %q", want, again)
		}
	})
}
