package namespace

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/boxo/ipns"

	"github.com/volary/volary/snapshot/dagcbor"
)

var sameName = cmp.Comparer(ipns.Name.Equal)

func derived(t testing.TB, n *Namespace) Binding {
	return must(n.Bind("data", must(n.DeriveKey("data", 1))(t), 1, 0))(t)
}

func TestBindingsEqualTheGoldenFiles(t *testing.T) {
	n := known(t, 1)
	equalsGolden(t, "binding.cbor", derived(t, n).Data)
	equalsGolden(t, "binding-sealed.cbor", must(n.Bind("imported", imported(t), 3, 1))(t).Data)
}

func TestBindingReadsBackAsMade(t *testing.T) {
	n := known(t, 1)
	reader := must(OpenReadOnly(n.PublicKey()))(t)
	longest := must(n.Bind(strings.Repeat("é", MaxName/2), imported(t), MaxGeneration, 1))(t)
	for _, want := range []Binding{derived(t, n), longest} {
		for _, by := range []*Namespace{n, reader} {
			got := must(by.Verify(want.Data))(t)
			if len(got.Sealed) == 0 {
				got.Sealed = nil
			}
			if diff := cmp.Diff(want, got, sameName); diff != "" {
				t.Errorf("(-made +read):\n%s", diff)
			}
		}
	}
}

func TestBindingIsTheSameWhoeverMakesIt(t *testing.T) {
	a, b := known(t, 1), known(t, 1)
	for range 3 {
		x, y := must(a.Bind("x", imported(t), 2, 0))(t), must(b.Bind("x", imported(t), 2, 0))(t)
		if !bytes.Equal(x.Data, y.Data) {
			t.Fatal("two hosts make different bindings")
		}
	}
}

func TestKeyOfAVolumeIsFoundFromItsBindingAlone(t *testing.T) {
	n := known(t, 1)
	first := must(n.DeriveKey("data", 1))(t)
	renamed := must(n.Bind("other", first, 2, 0))(t)
	foreign := must(n.Bind("imported", imported(t), 1, 0))(t)
	if len(derived(t, n).Sealed) != 0 || len(renamed.Sealed) == 0 {
		t.Error("a key is sealed that can be derived, or not sealed where it cannot")
	}
	host := known(t, 1)
	for _, b := range []Binding{derived(t, n), renamed, foreign} {
		got := must(host.Key(must(host.Verify(b.Data))(t)))(t)
		if name := must(NameOf(got))(t); name != b.Volume {
			t.Errorf("%q: key of %s, want %s", b.Name, name, b.Volume)
		}
	}
	reader := must(OpenReadOnly(n.PublicKey()))(t)
	if _, err := reader.Key(foreign); !errors.Is(err, ErrReadOnly) {
		t.Errorf("without the secret: %v", err)
	}
}

func TestSealedKeyOfAnotherSecretOrVolumeIsRefused(t *testing.T) {
	n := known(t, 1)
	b := must(n.Bind("imported", imported(t), 1, 0))(t)
	for i := range b.Sealed {
		changed := b
		changed.Sealed = slices.Clone(b.Sealed)
		changed.Sealed[i] ^= 1
		if _, err := n.Key(changed); !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	other := b
	other.Volume = derived(t, n).Volume
	if _, err := n.Key(other); !errors.Is(err, ErrFormat) {
		t.Errorf("another volume: %v", err)
	}
	if _, err := known(t, 2).Key(b); !errors.Is(err, ErrFormat) {
		t.Errorf("another secret: %v", err)
	}
}

func TestBindingOfAnotherNamespaceOrChangedIsRefused(t *testing.T) {
	n := known(t, 1)
	data := derived(t, n).Data
	if _, err := known(t, 2).Verify(data); !errors.Is(err, ErrSignature) {
		t.Errorf("another namespace: %v", err)
	}
	for i := range data {
		changed := slices.Clone(data)
		changed[i] ^= 1
		if _, err := n.Verify(changed); !errors.Is(err, ErrSignature) && !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := n.Verify(data[:i]); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
	if _, err := n.Verify(append(slices.Clone(data), make([]byte, MaxBinding)...)); !errors.Is(err, ErrFormat) {
		t.Errorf("oversized: %v", err)
	}
}

func TestWhatIsRememberedIsWhatWasVerified(t *testing.T) {
	n := known(t, 1)
	verify := n.Remembering()
	want := derived(t, n)
	forged := bytes.Clone(want.Data)
	forged[len(forged)-1] ^= 1
	for range 2 {
		if got := must(verify(want.Data))(t); Compare(got, want) != 0 || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if _, err := verify(forged); err == nil {
			t.Error("a forged binding was taken")
		}
	}
}

func TestBindingThatMeansNothingIsNotRead(t *testing.T) {
	n := known(t, 1)
	good := wireBinding{Kind: bindingKind, Name: "data", Volume: derived(t, n).Volume.String(), Generation: 1, Life: 2}
	for what, spoil := range map[string]func(*wireBinding){
		"later kind":          func(w *wireBinding) { w.Kind = "volary/binding/2" },
		"no name":             func(w *wireBinding) { w.Name = "" },
		"name too long":       func(w *wireBinding) { w.Name = strings.Repeat("x", MaxName+1) },
		"name with a slash":   func(w *wireBinding) { w.Name = "a/b" },
		"name with a control": func(w *wireBinding) { w.Name = "a\u0085" },
		"name of the parent":  func(w *wireBinding) { w.Name = ".." },
		"generation 0":        func(w *wireBinding) { w.Generation = 0 },
		"last generation":     func(w *wireBinding) { w.Generation = MaxGeneration + 1 },
		"last life":           func(w *wireBinding) { w.Life = MaxGeneration + 1 },
		"volume":              func(w *wireBinding) { w.Volume = "k51" },
		"volume's other form": func(w *wireBinding) { w.Volume = derived(t, n).Volume.Peer().String() },
		"key cut short":       func(w *wireBinding) { w.Sealed = make([]byte, sealedSize-1) },
	} {
		w := good
		spoil(&w)
		if _, err := n.Verify(signWire(t, n, w)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", what, err)
		}
	}
	if _, err := n.Verify(signWire(t, n, good)); err != nil {
		t.Error(err)
	}
}

func signWire(t testing.TB, n *Namespace, w wireBinding) []byte {
	w.Signature = ed25519.Sign(n.private, must(w.signed())(t))
	return must(dagcbor.Marshal(w))(t)
}

func TestBindingsAreOrderedTheSameEverywhere(t *testing.T) {
	n := known(t, 1)
	bind := func(name string, of byte, generation, life uint64) Binding {
		key := must(keyFromSeed(bytes.Repeat([]byte{of}, 32)))(t)
		return must(n.Bind(name, key, generation, life))(t)
	}
	x, y := bind("a", 1, 1, 0), bind("a", 2, 1, 0)
	if bytes.Compare([]byte(x.Volume.Peer()), []byte(y.Volume.Peer())) < 0 {
		x, y = y, x
	}
	ordered := []Binding{
		bind("b", 1, 1, 0), x, y, bind("b", 1, 2, 0), bind("a", 1, 2, 0), bind("zz", 1, 3, 0),
		bind("z", 1, 1, 1), bind("a", 1, 2, 1), bind("a", 1, 1, 2),
	}
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := Compare(a, b) < 0, i < j; got != want {
				t.Errorf("binding %d before %d: %v", i, j, got)
			}
			if (Compare(a, b) == 0) != (i == j) {
				t.Errorf("bindings %d and %d compare as %d", i, j, Compare(a, b))
			}
		}
	}
}

func FuzzBindingReencodesToTheSameBytes(f *testing.F) {
	n := known(f, 1)
	f.Add(derived(f, n).Data)
	f.Add(must(n.Bind("imported", imported(f), 3, 1))(f).Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := n.Verify(data)
		if errors.Is(err, ErrFormat) {
			return
		}
		var w wireBinding
		if err := dagcbor.Unmarshal(data, &w); err != nil {
			t.Fatalf("taken for a binding: %v", err)
		}
		if again := must(dagcbor.Marshal(w))(t); !bytes.Equal(again, data) {
			t.Fatal("what was read is written otherwise")
		}
		// Whatever else a signed one says, it is a binding.
		if _, err := n.Verify(signWire(t, n, w)); len(data) < MaxBinding-80 && err != nil {
			t.Fatal(err)
		}
		if err != nil && !errors.Is(err, ErrSignature) {
			t.Fatalf("refused with %v", err)
		}
	})
}

func TestANameGoesToTheSameVolumeOnEveryHost(t *testing.T) {
	n := known(t, 1)
	bind := func(name string, of byte, generation, life uint64) Binding {
		key := must(keyFromSeed(bytes.Repeat([]byte{of}, 32)))(t)
		return must(n.Bind(name, key, generation, life))(t)
	}
	removed, older, newer, rival := bind("a", 1, 9, 1), bind("a", 2, 1, 0), bind("a", 3, 2, 0), bind("a", 4, 2, 0)
	want := newer
	if Compare(newer, rival) < 0 {
		want = rival
	}
	newest := []Binding{removed, older, newer, rival, bind("b", 5, 1, 0)}
	for range newest {
		newest = append(newest[1:], newest[0])
		got := Names(slices.Values(newest))
		if len(got) != 2 || got["a"].Volume != want.Volume {
			t.Fatalf("a is %s, want %s", got["a"].Volume, want.Volume)
		}
	}
}
