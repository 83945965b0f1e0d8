package namespace

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/ipfs/boxo/ipns"
	"github.com/libp2p/go-libp2p/core/crypto"
)

const (
	sealNonce  = 12
	sealTag    = 16
	sealedSize = sealNonce + ed25519.SeedSize + sealTag
)

// seal encrypts a volume's key with AES-256-GCM. The nonce is a MAC of the key itself, so that a binding is the same
// whoever makes it, and no nonce is used for two different keys.
func (n *Namespace) seal(volume ipns.Name, key crypto.PrivKey) ([]byte, error) {
	seed, err := seedOf(key)
	if err != nil {
		return nil, err
	}
	gcm, mac, err := n.sealer()
	if err != nil {
		return nil, err
	}
	nonce := sealNonceOf(mac, volume, seed)
	return gcm.Seal(nonce, nonce, seed, []byte(volume.Peer())), nil
}

// Key returns the key of a binding's volume, which is derived from the secret or sealed in the binding.
func (n *Namespace) Key(b Binding) (crypto.PrivKey, error) {
	key, err := n.key(b)
	if err != nil {
		return nil, fmt.Errorf("key of volume %q: %w", b.Name, err)
	}
	if volume, err := NameOf(key); err != nil || volume != b.Volume {
		return nil, fmt.Errorf("key of volume %q is not that of %s: %w", b.Name, b.Volume, ErrFormat)
	}
	return key, nil
}

func (n *Namespace) key(b Binding) (crypto.PrivKey, error) {
	if len(b.Sealed) == 0 {
		return n.DeriveKey(b.Name, b.Generation)
	}
	if !n.CanWrite() {
		return nil, ErrReadOnly
	}
	if len(b.Sealed) != sealedSize {
		return nil, fmt.Errorf("sealed key of %d bytes: %w", len(b.Sealed), ErrFormat)
	}
	gcm, mac, err := n.sealer()
	if err != nil {
		return nil, err
	}
	nonce := b.Sealed[:sealNonce]
	seed, err := gcm.Open(nil, nonce, b.Sealed[sealNonce:], []byte(b.Volume.Peer()))
	if err != nil || !hmac.Equal(nonce, sealNonceOf(mac, b.Volume, seed)) {
		return nil, fmt.Errorf("sealed by another secret, or changed: %w", ErrFormat)
	}
	return keyFromSeed(seed)
}

func (n *Namespace) sealer() (gcm cipher.AEAD, mac []byte, _ error) {
	key, err := n.derive(labelSeal + "encrypt")
	if err != nil {
		return nil, nil, err
	}
	if mac, err = n.derive(labelSeal + "nonce"); err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	gcm, err = cipher.NewGCM(block)
	return gcm, mac, err
}

func sealNonceOf(mac []byte, volume ipns.Name, seed []byte) []byte {
	h := hmac.New(sha256.New, mac)
	h.Write([]byte(volume.Peer()))
	h.Write(seed)
	return h.Sum(nil)[:sealNonce]
}
