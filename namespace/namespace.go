// Package namespace is what the hosts of one namespace share: a secret, and the keys, tokens and names that come of it.
//
// Start with [NewSecret] and [Open]. A [Namespace] derives the key of each volume, and signs and checks a [Binding],
// which says by what name a volume goes. One made with [OpenReadOnly] checks bindings and signs none.
//
// It guarantees: the same secret gives the same keys everywhere; the same binding has the same bytes; bytes that were
// not signed with the namespace's key are never taken for a binding.
package namespace

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

var (
	// ErrFormat says that bytes or a text are not of the format they should be of.
	ErrFormat = errors.New("malformed")
	// ErrSignature says that bytes were not signed with the key they should be signed with.
	ErrSignature = errors.New("not signed by this namespace")
	// ErrReadOnly says that something needs the secret, which this host was not given.
	ErrReadOnly error = readOnly{}
)

type readOnly struct{}

func (readOnly) Error() string { return "this host may only read in the namespace" }
func (readOnly) Unwrap() error { return fs.ErrPermission }

// Labels of what is derived from the secret. None begins with another.
const (
	labelSigning = "volary/1/namespace-key\x00"
	labelVolume  = "volary/1/volume-key\x00"
	labelSwarm   = "volary/1/swarm-key\x00"
	labelSeal    = "volary/1/seal-key\x00"
	labelID      = "volary/1/namespace-id\x00"

	labelSuccessor = "volary/1/successor-key\x00"
)

// SecretSize is the size of a secret, and of all keys, in bytes.
const SecretSize = 32

// Secret is all that it takes to write in a namespace.
type Secret [SecretSize]byte

// NewSecret makes a secret.
func NewSecret() (s Secret) {
	rand.Read(s[:])
	return s
}

// String keeps the secret out of logs and messages.
func (Secret) String() string { return "(secret)" }

// GoString keeps the secret out of logs and messages.
func (Secret) GoString() string { return "namespace.Secret{}" }

// Namespace is what a host knows of one. It must be made by Open or OpenReadOnly; it does not change, and is safe for
// concurrent use.
type Namespace struct {
	id      string
	public  ed25519.PublicKey
	private ed25519.PrivateKey // nil: read-only
	secret  Secret
}

// Open returns the namespace of a secret.
func Open(s Secret) (*Namespace, error) {
	n := &Namespace{secret: s}
	seed, err := n.derive(labelSigning)
	if err != nil {
		return nil, err
	}
	n.private = ed25519.NewKeyFromSeed(seed)
	n.public = n.private.Public().(ed25519.PublicKey)
	n.id = idOf(n.public)
	return n, nil
}

// OpenReadOnly returns the namespace of a public key, in which nothing can be signed.
func OpenReadOnly(public ed25519.PublicKey) (*Namespace, error) {
	if len(public) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("public key of %d bytes: %w", len(public), ErrFormat)
	}
	return &Namespace{id: idOf(public), public: bytes.Clone(public)}, nil
}

// idOf is short enough for names of pins, and long enough that no two namespaces of one cluster meet.
func idOf(public ed25519.PublicKey) string {
	sum := sha256.Sum256(append([]byte(labelID), public...))
	return lower32.EncodeToString(sum[:10])
}

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ID names the namespace: 16 letters and digits that tell nothing of the secret.
func (n *Namespace) ID() string { return n.id }

// PublicKey checks what the namespace signs.
func (n *Namespace) PublicKey() ed25519.PublicKey { return bytes.Clone(n.public) }

// CanWrite reports whether the host has the secret.
func (n *Namespace) CanWrite() bool { return n.private != nil }

// DeriveKey returns the key of a new volume. Hosts that make a volume of the same name and generation make the same.
func (n *Namespace) DeriveKey(name string, generation uint64) (crypto.PrivKey, error) {
	if !n.CanWrite() {
		return nil, fmt.Errorf("derive a volume's key: %w", ErrReadOnly)
	}
	info := binary.BigEndian.AppendUint64([]byte(labelVolume), generation)
	info = binary.BigEndian.AppendUint64(info, uint64(len(name)))
	seed, err := n.derive(string(append(info, name...)))
	if err != nil {
		return nil, err
	}
	return keyFromSeed(seed)
}

func (n *Namespace) derive(info string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, n.secret[:], nil, info, SecretSize)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return key, nil
}

// NameOf is the IPNS name of a volume with a key.
func NameOf(key crypto.PrivKey) (ipns.Name, error) {
	if key.Type() != crypto.Ed25519 {
		return ipns.Name{}, fmt.Errorf("key of type %s, only Ed25519 is known: %w", key.Type(), ErrFormat)
	}
	id, err := peer.IDFromPublicKey(key.GetPublic())
	if err != nil {
		return ipns.Name{}, fmt.Errorf("name a key: %w", err)
	}
	return ipns.NameFromPeer(id), nil
}

// ParseName reads the IPNS name of a volume in the form that [ipns.Name.String] gives, and no other.
func ParseName(text string) (ipns.Name, error) {
	name, err := ipns.NameFromString(text)
	if err == nil {
		err = CheckVolume(name)
	}
	if err != nil || name.String() != text {
		return ipns.Name{}, fmt.Errorf("IPNS name %.80q is not the usual form of a volume's: %w", text, errors.Join(ErrFormat, err))
	}
	return name, nil
}

// CheckVolume says whether an IPNS name is one that a volume can have: an Ed25519 key.
func CheckVolume(name ipns.Name) error {
	public, err := name.Peer().ExtractPublicKey()
	if err != nil || public.Type() != crypto.Ed25519 {
		return fmt.Errorf("IPNS name is not an Ed25519 key: %w", errors.Join(ErrFormat, err))
	}
	return nil
}

func keyFromSeed(seed []byte) (crypto.PrivKey, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return nil, fmt.Errorf("make a volume's key: %w", err)
	}
	return key, nil
}

// seedOf returns the 32 bytes that an Ed25519 key is made of.
func seedOf(key crypto.PrivKey) ([]byte, error) {
	raw, err := key.Raw()
	if err != nil || len(raw) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("take a key of %d bytes apart: %w", len(raw), errors.Join(ErrFormat, err))
	}
	return ed25519.PrivateKey(raw).Seed(), nil
}
