package namespace

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/volary/volary/snapshot/dagcbor"
)

const (
	bindingKind = "volary/binding/1"
	// MaxBinding is the largest binding in bytes.
	MaxBinding = 1024
	// MaxName is the longest name of a volume in bytes.
	MaxName = 255
	// MaxGeneration is the largest generation, and the largest life.
	MaxGeneration = math.MaxInt64
)

// A Binding says by what name a volume goes. It is made by [Namespace.Bind] or [Namespace.Verify].
//
// Generation is 1 for a new name of a new volume. Any other binding, made to rename a volume, to remove it, to bring it
// back or to give its name to another, has 1 + the largest that is known of the name and of the volume. Life is 0 for a
// new volume and one more whenever it is removed, which makes it odd, or brought back. So of two bindings of a volume
// the later one counts, whatever arrives first, and a removal also before what was made by those who did not know of
// it; [Compare] says which that is.
type Binding struct {
	Name       string
	Volume     ipns.Name
	Generation uint64
	Life       uint64
	Sealed     []byte // the volume's key for those who have the secret; empty if Name and Generation give the key
	Data       []byte // all this, encoded and signed
}

// Removed reports whether the volume is removed; then it only had the name.
func (b Binding) Removed() bool { return b.Life%2 == 1 }

type wireBinding struct {
	Kind       string `cbor:"kind"`
	Name       string `cbor:"name"`
	Volume     string `cbor:"volume"`
	Generation uint64 `cbor:"generation"`
	Life       uint64 `cbor:"life"`
	Sealed     []byte `cbor:"sealed"`
	Signature  []byte `cbor:"signature"`
}

// Bind says that the volume with a key has a name, or, with an odd life, that it is removed.
func (n *Namespace) Bind(name string, key crypto.PrivKey, generation, life uint64) (Binding, error) {
	volume, err := NameOf(key)
	if err != nil {
		return Binding{}, err
	}
	derived, err := n.DeriveKey(name, generation)
	if err != nil {
		return Binding{}, fmt.Errorf("bind %q: %w", name, err)
	}
	var sealed []byte
	if !derived.Equals(key) {
		if sealed, err = n.seal(volume, key); err != nil {
			return Binding{}, fmt.Errorf("bind %q: %w", name, err)
		}
	}
	w := wireBinding{Kind: bindingKind, Name: name, Volume: volume.String(), Generation: generation, Life: life, Sealed: sealed}
	b, err := w.binding()
	if err != nil {
		return Binding{}, fmt.Errorf("bind %q: %w", name, err)
	}
	signed, err := w.signed()
	if err != nil {
		return Binding{}, err
	}
	w.Signature = ed25519.Sign(n.private, signed)
	b.Data, err = dagcbor.Marshal(w)
	return b, err
}

// Verify reads a binding and checks that the namespace signed it. Errors wrap [ErrFormat] or [ErrSignature].
func (n *Namespace) Verify(data []byte) (Binding, error) {
	if len(data) > MaxBinding {
		return Binding{}, fmt.Errorf("binding of %d bytes, at most %d are allowed: %w", len(data), MaxBinding, ErrFormat)
	}
	var w wireBinding
	if err := dagcbor.Unmarshal(data, &w); err != nil {
		return Binding{}, fmt.Errorf("read a binding: %w: %w", ErrFormat, err)
	}
	b, err := w.binding()
	if err != nil {
		return Binding{}, fmt.Errorf("read a binding: %w", err)
	}
	signature := w.Signature
	signed, err := w.signed()
	if err != nil {
		return Binding{}, err
	}
	if !n.signedBy(signed, signature) {
		return Binding{}, fmt.Errorf("binding of %q: %w", b.Name, ErrSignature)
	}
	b.Data = bytes.Clone(data)
	return b, nil
}

// signed is what the signature is of. The kind in front keeps it from being taken for something else.
func (w wireBinding) signed() ([]byte, error) {
	w.Signature = nil
	data, err := dagcbor.Marshal(w)
	return withKind(bindingKind, data), err
}

// binding checks all but the signature.
func (w *wireBinding) binding() (Binding, error) {
	volume, err := ParseName(w.Volume)
	if err != nil {
		return Binding{}, err
	}
	b := Binding{Name: w.Name, Volume: volume, Generation: w.Generation, Life: w.Life, Sealed: w.Sealed}
	switch {
	case w.Kind != bindingKind:
		return Binding{}, fmt.Errorf("kind %.80q is not known: %w", w.Kind, ErrFormat)
	case !isName(b.Name):
		return Binding{}, fmt.Errorf("name %.80q: %w", b.Name, ErrFormat)
	case b.Generation == 0 || b.Generation > MaxGeneration:
		return Binding{}, fmt.Errorf("generation %d: %w", b.Generation, ErrFormat)
	case b.Life > MaxGeneration:
		return Binding{}, fmt.Errorf("life %d: %w", b.Life, ErrFormat)
	case len(b.Sealed) != 0 && len(b.Sealed) != sealedSize:
		return Binding{}, fmt.Errorf("sealed key of %d bytes: %w", len(b.Sealed), ErrFormat)
	}
	return b, nil
}

// isName is the least that a name must be to be one in a path, a reference and a pin's name. It does not ask Unicode's
// tables: they grow, and hosts of all versions must agree on what a binding is.
func isName(name string) bool {
	if name == "" || len(name) > MaxName || name[0] == '.' || name[0] == '-' || !utf8.ValidString(name) {
		return false
	}
	for _, r := range name {
		if r <= ' ' || r >= 0x7f && r <= 0xa0 || r == '/' || r == '@' {
			return false
		}
	}
	return true
}

// Compare orders the bindings of one volume, or of one name, the same on every host: the larger one counts. That is the
// one of the later life, then of the larger generation, then of the smaller name, then of the smaller volume. Only
// bindings that are equal in all that compare as equal.
func Compare(a, b Binding) int {
	return cmp.Or(
		cmp.Compare(a.Life, b.Life),
		cmp.Compare(a.Generation, b.Generation),
		cmp.Compare(b.Name, a.Name),
		bytes.Compare([]byte(b.Volume.Peer()), []byte(a.Volume.Peer())),
	)
}
