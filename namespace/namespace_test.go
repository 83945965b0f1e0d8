package namespace

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func known(t testing.TB, first byte) *Namespace {
	t.Helper()
	var s Secret
	for i := range s {
		s[i] = first + byte(i)
	}
	return must(Open(s))(t)
}

// must returns v unless err says that there is none.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func imported(t testing.TB) crypto.PrivKey {
	return must(keyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)))(t)
}

func equalsGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := must(os.ReadFile(file))(t); !bytes.Equal(want, got) {
		t.Errorf("%s: a published format has changed\n got %q\nwant %q", name, got, want)
	}
}

func TestKeysOfASecretEqualTheGoldenFile(t *testing.T) {
	n := known(t, 1)
	var text strings.Builder
	line := func(what string, value any) { fmt.Fprintf(&text, "%s: %s\n", what, value) }
	line("id", n.ID())
	line("public key", hex.EncodeToString(n.PublicKey()))
	for _, v := range []struct {
		name       string
		generation uint64
	}{{"data", 1}, {"data", 2}, {"ü", 1}} {
		key := must(n.DeriveKey(v.name, v.generation))(t)
		line(fmt.Sprint(v), must(NameOf(key))(t))
	}
	key, _, err := n.SwarmKey(Swarm{Mode: SwarmDerived})
	if err != nil {
		t.Fatal(err)
	}
	line("swarm key", key.File())
	for _, s := range []Swarm{{Mode: SwarmDerived}, {Mode: SwarmNone}, {Mode: SwarmGiven, Key: SwarmKey{1, 2, 3}}} {
		line("token "+string(s.Mode), must(n.Token(s, false))(t))
		line("token to read "+string(s.Mode), must(n.Token(s, true))(t))
	}
	equalsGolden(t, "keys.txt", []byte(text.String()))
}

func TestTwoSecretsHaveNothingInCommon(t *testing.T) {
	a, b := known(t, 1), known(t, 2)
	if a.ID() == b.ID() || a.PublicKey().Equal(b.PublicKey()) || must(a.DeriveKey("data", 1))(t).Equals(must(b.DeriveKey("data", 1))(t)) {
		t.Error("keys of two secrets are equal")
	}
	if first, second := NewSecret(), NewSecret(); first == second {
		t.Error("two new secrets are equal")
	}
}

func TestNameAndGenerationAreNotTakenForEachOther(t *testing.T) {
	n := known(t, 1)
	seen := map[string]string{}
	for _, v := range []struct {
		name       string
		generation uint64
	}{{"a", 1}, {"a", 2}, {"a\x00", 1}, {"\x00a", 1}, {"aa", 1}, {"a", 1 << 8}, {"a", 1 << 56}} {
		name := must(NameOf(must(n.DeriveKey(v.name, v.generation))(t)))(t).String()
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q have the same key", fmt.Sprint(v), other)
		}
		seen[name] = fmt.Sprint(v)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	s := Secret{0xab, 0xcd}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), fmt.Sprintf("%#v %v", SwarmKey(s), SwarmKey(s))} {
		if strings.Contains(text, "171") || strings.Contains(text, "ab") || strings.Contains(text, "0xab") {
			t.Errorf("printed as %s", text)
		}
	}
}

func TestTokenGivesBackWhatItWasMadeOf(t *testing.T) {
	n := known(t, 1)
	for _, s := range []Swarm{{Mode: SwarmDerived}, {Mode: SwarmNone}, {Mode: SwarmGiven, Key: SwarmKey{9}}} {
		for _, readOnly := range []bool{false, true} {
			text := must(n.Token(s, readOnly))(t)
			got, swarm, err := ParseToken(text)
			if err != nil {
				t.Fatal(err)
			}
			if got.ID() != n.ID() || got.CanWrite() == readOnly || !IsToken(text) {
				t.Errorf("%s: %+v", text, got)
			}
			want, private, _ := n.SwarmKey(s)
			if key, p, err := got.SwarmKey(swarm); err != nil || key != want || p != private {
				t.Errorf("%s, read-only %v: swarm key %v, %v", s.Mode, readOnly, p, err)
			}
			if again := must(got.Token(swarm, readOnly))(t); again != text {
				t.Errorf("%s became %s", text, again)
			}
		}
	}
}

func TestTokenToReadDoesNotHoldTheSecret(t *testing.T) {
	n := known(t, 1)
	text := must(n.Token(Swarm{Mode: SwarmDerived}, true))(t)
	reader, _, err := ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{string(n.secret[:]), string(n.private.Seed())} {
		if raw := must(lower32.DecodeString(text[len(tokenRead):]))(t); strings.Contains(string(raw), payload) {
			t.Error("the token has a secret in it")
		}
	}
	if _, err := reader.DeriveKey("data", 1); !errors.Is(err, ErrReadOnly) {
		t.Errorf("derive: %v", err)
	}
	if _, err := reader.Bind("data", imported(t), 1, 0); !errors.Is(err, ErrReadOnly) {
		t.Errorf("bind: %v", err)
	}
	if _, err := reader.Token(Swarm{Mode: SwarmNone}, false); !errors.Is(err, ErrReadOnly) {
		t.Errorf("token: %v", err)
	}
}

func TestTokenWithAnyCharacterChangedIsRefused(t *testing.T) {
	text := must(known(t, 1).Token(Swarm{Mode: SwarmGiven}, false))(t)
	for i := range text {
		for _, c := range []byte("a7A\n-") {
			changed := []byte(text)
			if changed[i] == c {
				continue
			}
			changed[i] = c
			if _, _, err := ParseToken(string(changed)); !errors.Is(err, ErrFormat) {
				t.Fatalf("%q: %v", changed, err)
			}
		}
		if _, _, err := ParseToken(text[:i]); !errors.Is(err, ErrFormat) {
			t.Fatalf("%q: %v", text[:i], err)
		}
	}
	for _, more := range []string{"\n", " ", "a", strings.Repeat("a", 1000)} {
		if _, _, err := ParseToken(text + more); !errors.Is(err, ErrFormat) {
			t.Errorf("with %.4q: %v", more, err)
		}
	}
}

func TestSwarmKeyReadsTheFileOfAnIPFSSwarm(t *testing.T) {
	key := SwarmKey{1, 0xff}
	if got := must(ParseSwarmKey(key.File()))(t); got != key {
		t.Error("another key was read")
	}
	for _, file := range []string{"", "/key/swarm/psk/1.0.0/\n/base16/\n00", "/key/swarm/psk/2.0.0/\n/base16/\n" + strings.Repeat("0", 64)} {
		if _, err := ParseSwarmKey([]byte(file)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func FuzzTokenReencodesToTheSameText(f *testing.F) {
	n := known(f, 1)
	for _, s := range []Swarm{{Mode: SwarmDerived}, {Mode: SwarmGiven, Key: SwarmKey{1}}} {
		f.Add(must(n.Token(s, false))(f))
		f.Add(must(n.Token(s, true))(f))
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, swarm, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if again, err := got.Token(swarm, !got.CanWrite()); err != nil || again != text {
			t.Fatalf("%q became %q, %v", text, again, err)
		}
	})
}
