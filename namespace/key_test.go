package namespace

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestTheTextOfAKeyEqualsTheGoldenFile(t *testing.T) {
	key := imported(t)
	text := must(KeyText(key))(t)
	equalsGolden(t, "key.txt", []byte(text+"\n"))
	again := must(ParseKey(text))(t)
	if !again.Equals(key) {
		t.Error("another key is read")
	}
	if !IsKey(text) || IsKey("volary-rw-1-") {
		t.Error("a text is not known to be a key")
	}
}

func TestAKeyThatIsCutOrChangedIsRefused(t *testing.T) {
	text := must(KeyText(imported(t)))(t)
	token := must(known(t, 1).Token(Swarm{Mode: SwarmDerived}, false))(t)
	last := "a"
	if strings.HasSuffix(text, last) {
		last = "b"
	}
	for _, bad := range []string{"", "volary-key-1-", text[:len(text)-1], text + "a", text + "\n", strings.ToUpper(text), text[:len(text)-1] + last, token} {
		_, err := ParseKey(bad)
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
		if err != nil && len(bad) > len(keyPrefix) && strings.Contains(err.Error(), bad[len(keyPrefix):]) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
}

func TestASealedKeyIsOpenedByItsSecretAlone(t *testing.T) {
	n, key := known(t, 1), imported(t)
	volume, sealed, err := n.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	if again := must(n.Unseal(volume, sealed))(t); !again.Equals(key) {
		t.Error("another key is opened")
	}
	if _, err := known(t, 2).Unseal(volume, sealed); !errors.Is(err, ErrFormat) {
		t.Errorf("another secret: %v", err)
	}
	other := must(NameOf(must(n.DeriveKey("data", 1))(t)))(t)
	if _, err := n.Unseal(other, sealed); !errors.Is(err, ErrFormat) {
		t.Errorf("another volume: %v", err)
	}
	if _, err := n.Unseal(volume, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("no key: %v", err)
	}
	reader := must(OpenReadOnly(n.PublicKey()))(t)
	if _, _, err := reader.Seal(key); !errors.Is(err, ErrReadOnly) {
		t.Errorf("without the secret: %v", err)
	}
}

func FuzzKeyReencodesToTheSameText(f *testing.F) {
	f.Add(must(KeyText(imported(f)))(f))
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseKey(text)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if again, err := KeyText(key); err != nil || again != text {
			t.Fatalf("%q became %q, %v", text, again, err)
		}
	})
}

func TestTheSuccessorsOfVolumesEqualTheGoldenFile(t *testing.T) {
	before, after := known(t, 1), known(t, 2)
	var text strings.Builder
	for _, name := range []string{"data", "ü"} {
		volume := must(NameOf(must(before.DeriveKey(name, 1))(t)))(t)
		key := must(after.SuccessorKey(volume))(t)
		fmt.Fprintf(&text, "%s: %s\n", volume, must(NameOf(key))(t))
	}
	equalsGolden(t, "successors.txt", []byte(text.String()))
	reader := must(OpenReadOnly(after.PublicKey()))(t)
	if _, err := reader.SuccessorKey(must(NameOf(imported(t)))(t)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("without the secret: %v", err)
	}
}
