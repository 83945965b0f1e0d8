package namespace

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/pnet"
)

// SwarmMode says where the key of the hosts' private swarm comes from.
type SwarmMode string

const (
	SwarmDerived SwarmMode = "derived" // from the secret
	SwarmGiven   SwarmMode = "given"   // that of an IPFS swarm which exists
	SwarmNone    SwarmMode = "none"    // the swarm is not private
)

// Swarm is how the hosts of a namespace connect.
type Swarm struct {
	Mode SwarmMode
	Key  SwarmKey // for SwarmGiven
}

// SwarmKey is the pre-shared key of a private swarm.
type SwarmKey [SecretSize]byte

// String keeps the key out of logs and messages.
func (SwarmKey) String() string { return "(swarm key)" }

// GoString keeps the key out of logs and messages.
func (SwarmKey) GoString() string { return "namespace.SwarmKey{}" }

const swarmKeyHeader = "/key/swarm/psk/1.0.0/\n/base16/\n"

// File is the content of a swarm.key file, as Kubo and IPFS Cluster read it.
func (k SwarmKey) File() []byte { return []byte(swarmKeyHeader + hex.EncodeToString(k[:]) + "\n") }

// ParseSwarmKey reads a swarm.key file.
func ParseSwarmKey(file []byte) (k SwarmKey, _ error) {
	psk, err := pnet.DecodeV1PSK(bytes.NewReader(file))
	if err != nil || len(psk) != len(k) {
		return k, fmt.Errorf("read a swarm key: %w", ErrFormat)
	}
	copy(k[:], psk)
	return k, nil
}

// SwarmKey returns the key of the private swarm, or false if the swarm is not private.
func (n *Namespace) SwarmKey(s Swarm) (key SwarmKey, private bool, _ error) {
	switch s.Mode {
	case SwarmGiven:
		return s.Key, true, nil
	case SwarmNone:
		return key, false, nil
	case SwarmDerived:
	default:
		return key, false, fmt.Errorf("swarm %q: %w", s.Mode, ErrFormat)
	}
	if !n.CanWrite() {
		return key, false, fmt.Errorf("derive the swarm key: %w", ErrReadOnly)
	}
	raw, err := n.derive(labelSwarm)
	copy(key[:], raw)
	return key, true, err
}

// A token is one of these prefixes and, in base32, a key of 32 bytes, a byte for the swarm, the swarm key if it is
// given, and the first 4 bytes of the SHA-256 of prefix and all that.
const (
	tokenWrite  = "volary-rw-1-"
	tokenRead   = "volary-ro-1-"
	maxToken    = 160
	tokenNone   = 0
	tokenDerive = 1
	tokenGiven  = 2
	checkLen    = 4
)

// Token returns the text that lets a host join: with the secret, or, for hosts that only read, with the public key
// and the swarm key.
func (n *Namespace) Token(s Swarm, readOnly bool) (string, error) {
	if !readOnly && !n.CanWrite() {
		return "", fmt.Errorf("make a token that can write: %w", ErrReadOnly)
	}
	key, private, err := n.SwarmKey(s)
	if err != nil {
		return "", err
	}
	prefix, payload := tokenWrite, n.secret[:]
	if readOnly {
		prefix, payload = tokenRead, n.public
	}
	payload = bytes.Clone(payload)
	switch {
	case !private:
		payload = append(payload, tokenNone)
	case s.Mode == SwarmDerived && !readOnly:
		payload = append(payload, tokenDerive)
	default:
		payload = append(append(payload, tokenGiven), key[:]...)
	}
	return prefix + lower32.EncodeToString(append(payload, checksum(prefix, payload)...)), nil
}

// ParseToken reads a token. The error says nothing of what is in it.
func ParseToken(text string) (*Namespace, Swarm, error) {
	if len(text) > maxToken || len(text) < len(tokenWrite) {
		return nil, Swarm{}, fmt.Errorf("token of %d bytes: %w", len(text), ErrFormat)
	}
	prefix, body := text[:len(tokenWrite)], text[len(tokenWrite):]
	if prefix != tokenWrite && prefix != tokenRead {
		return nil, Swarm{}, fmt.Errorf("token does not begin with %s or %s: %w", tokenWrite, tokenRead, ErrFormat)
	}
	payload, err := lower32.DecodeString(body)
	// The decoder passes over line ends and stray bits.
	if err != nil || len(payload) <= SecretSize+checkLen || lower32.EncodeToString(payload) != body {
		return nil, Swarm{}, fmt.Errorf("token is cut or changed: %w", ErrFormat)
	}
	payload, check := payload[:len(payload)-checkLen], payload[len(payload)-checkLen:]
	if !bytes.Equal(check, checksum(prefix, payload)) {
		return nil, Swarm{}, fmt.Errorf("token's checksum is wrong, it was cut or changed: %w", ErrFormat)
	}
	s, err := swarmOf(payload[SecretSize:], prefix == tokenWrite)
	if err != nil {
		return nil, Swarm{}, err
	}
	if prefix == tokenRead {
		n, err := OpenReadOnly(ed25519.PublicKey(payload[:SecretSize]))
		return n, s, err
	}
	n, err := Open(Secret(payload[:SecretSize]))
	return n, s, err
}

// IsToken reports whether a text is meant to be a token, so that messages leave it out.
func IsToken(text string) bool {
	return strings.HasPrefix(text, tokenWrite) || strings.HasPrefix(text, tokenRead)
}

func swarmOf(b []byte, write bool) (Swarm, error) {
	switch {
	case b[0] == tokenNone && len(b) == 1:
		return Swarm{Mode: SwarmNone}, nil
	case b[0] == tokenDerive && len(b) == 1 && write:
		return Swarm{Mode: SwarmDerived}, nil
	case b[0] == tokenGiven && len(b) == 1+SecretSize:
		return Swarm{Mode: SwarmGiven, Key: SwarmKey(b[1:])}, nil
	}
	return Swarm{}, fmt.Errorf("token's swarm %d is not known: %w", b[0], ErrFormat)
}

func checksum(prefix string, payload []byte) []byte {
	sum := sha256.Sum256(append([]byte(prefix), payload...))
	return sum[:checkLen]
}
