package namespace

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/crypto"
)

// keyPrefix begins the text of a volume's key, which is it and, in base32, the 32 bytes of the seed and the first 4
// bytes of the SHA-256 of prefix and seed.
const keyPrefix = "volary-key-1-"

// KeyText writes the key of a volume as a text. Whoever has it can sign heads of the volume.
func KeyText(key crypto.PrivKey) (string, error) {
	seed, err := seedOf(key)
	if err != nil {
		return "", err
	}
	return keyPrefix + lower32.EncodeToString(append(seed, checksum(keyPrefix, seed)...)), nil
}

// ParseKey reads what KeyText wrote. The error says nothing of what is in it.
func ParseKey(text string) (crypto.PrivKey, error) {
	body, is := strings.CutPrefix(text, keyPrefix)
	if !is {
		return nil, fmt.Errorf("key does not begin with %s: %w", keyPrefix, ErrFormat)
	}
	payload, err := lower32.DecodeString(body)
	// The decoder passes over line ends and stray bits.
	if err != nil || len(payload) != ed25519.SeedSize+checkLen || lower32.EncodeToString(payload) != body {
		return nil, fmt.Errorf("key is cut or changed: %w", ErrFormat)
	}
	seed, check := payload[:ed25519.SeedSize], payload[ed25519.SeedSize:]
	if !bytes.Equal(check, checksum(keyPrefix, seed)) {
		return nil, fmt.Errorf("key's checksum is wrong, it was cut or changed: %w", ErrFormat)
	}
	return keyFromSeed(seed)
}

// IsKey reports whether a text is meant to be a volume's key, so that messages leave it out.
func IsKey(text string) bool { return strings.HasPrefix(text, keyPrefix) }

// Seal encrypts the key of a volume for those who have the secret. The same key gives the same bytes.
func (n *Namespace) Seal(key crypto.PrivKey) (ipns.Name, []byte, error) {
	volume, err := NameOf(key)
	if err != nil {
		return volume, nil, err
	}
	if !n.CanWrite() {
		return volume, nil, fmt.Errorf("seal a volume's key: %w", ErrReadOnly)
	}
	sealed, err := n.seal(volume, key)
	return volume, sealed, err
}

// Unseal returns what Seal encrypted. The error wraps [ErrFormat] if another secret sealed it, or another key.
func (n *Namespace) Unseal(volume ipns.Name, sealed []byte) (crypto.PrivKey, error) {
	if len(sealed) == 0 {
		return nil, fmt.Errorf("sealed key of 0 bytes: %w", ErrFormat)
	}
	return n.Key(Binding{Name: volume.String(), Volume: volume, Sealed: sealed})
}

// SuccessorKey is the key that a volume of another namespace has in this one, to which that one's secret was changed.
// Hosts that know the volume make the same, by whatever name they know it.
func (n *Namespace) SuccessorKey(volume ipns.Name) (crypto.PrivKey, error) {
	if !n.CanWrite() {
		return nil, fmt.Errorf("derive a volume's key: %w", ErrReadOnly)
	}
	seed, err := n.derive(labelSuccessor + string(volume.Peer()))
	if err != nil {
		return nil, err
	}
	return keyFromSeed(seed)
}
