package gossip

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/volary/volary/head"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/dagcbor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, got, 0o644))
	}
	if want := must(os.ReadFile(file))(t); !bytes.Equal(want, got) {
		t.Errorf("%s: the format has changed:\n got %q\nwant %q", name, got, want)
	}
}

func encoded(t testing.TB, n news) []byte { return must(n.encode())(t) }

func cborOf(t testing.TB, v any) []byte { return must(dagcbor.Marshal(v))(t) }

func TestNewsAreTheGoldenFiles(t *testing.T) {
	n := volumeAt(t, ours(t), "data", 5, "a state")
	golden(t, "news.cbor", encoded(t, n))
	n.head = head.Head{}
	golden(t, "news-binding.cbor", encoded(t, n))
}

func TestTheLargestNewsFit(t *testing.T) {
	key := must(ours(t).DeriveKey("other", 1))(t)
	b := must(ours(t).Bind(strings.Repeat("x", namespace.MaxName), key, namespace.MaxGeneration, namespace.MaxGeneration))(t)
	n := news{b, signed(t, key, head.MaxSequence, "a state")}
	if data := encoded(t, n); len(data) > MaxNews/2 {
		t.Errorf("%d bytes", len(data))
	}
	if size := namespace.MaxBinding + head.MaxRecord + 64; size > MaxNews {
		t.Errorf("a binding and a record of the largest size make %d bytes", size)
	}
}

func TestOnlyWhatWasSignedIsNews(t *testing.T) {
	n := volumeAt(t, ours(t), "data", 5, "a state")
	other := volumeAt(t, ours(t), "other", 5, "a state")
	theirs := volumeAt(t, otherNamespace(t), "data", 5, "a state")
	data := encoded(t, n)
	forged := bytes.Clone(n.head.Record)
	forged[10] ^= 1 // of the signature
	ask := ours(t).Verify
	for what, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":                   {nil, ErrFormat},
		"truncated":                 {data[:len(data)-1], ErrFormat},
		"more after it":             {append(bytes.Clone(data), 0), ErrFormat},
		"oversized":                 {cborOf(t, wireNews{newsKind, n.binding.Data, make([]byte, MaxNews)}), ErrFormat},
		"another kind":              {cborOf(t, wireNews{"volary/news/2", n.binding.Data, n.head.Record}), ErrFormat},
		"no binding":                {cborOf(t, wireNews{newsKind, nil, n.head.Record}), namespace.ErrFormat},
		"another namespace's":       {encoded(t, theirs), namespace.ErrSignature},
		"another volume's head":     {encoded(t, news{other.binding, n.head}), head.ErrSignature},
		"a record that is forged":   {cborOf(t, wireNews{newsKind, n.binding.Data, forged}), head.ErrSignature},
		"a record that is cut":      {cborOf(t, wireNews{newsKind, n.binding.Data, n.head.Record[:50]}), head.ErrFormat},
		"a binding that is cut":     {cborOf(t, wireNews{newsKind, n.binding.Data[:50], n.head.Record}), namespace.ErrFormat},
		"a map of a million fields": {[]byte("\xba\x00\x0f\xff\xff"), ErrFormat},
	} {
		if _, err := decodeNews(c.data, ask); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

func FuzzNews(f *testing.F) {
	n := volumeAt(f, ours(f), "data", 5, "a state")
	f.Add(encoded(f, n))
	f.Add(encoded(f, news{binding: n.binding}))
	verify := ours(f).Verify
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := decodeNews(data, verify)
		if err != nil {
			return
		}
		if again := encoded(t, n); !bytes.Equal(again, data) {
			t.Errorf("%q re-encodes to %q", data, again)
		}
	})
}
