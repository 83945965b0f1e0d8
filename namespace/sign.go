package namespace

import (
	"crypto/ed25519"
	"fmt"
)

// Sign signs what a host says in the name of the namespace. The kind keeps it from being taken for something else.
func (n *Namespace) Sign(kind string, data []byte) ([]byte, error) {
	if !n.CanWrite() {
		return nil, fmt.Errorf("sign %s: %w", kind, ErrReadOnly)
	}
	return ed25519.Sign(n.private, withKind(kind, data)), nil
}

// CheckSignature checks what Sign made. The error wraps [ErrSignature].
func (n *Namespace) CheckSignature(kind string, data, signature []byte) error {
	if !n.signedBy(withKind(kind, data), signature) {
		return fmt.Errorf("%s: %w", kind, ErrSignature)
	}
	return nil
}

// signedBy reports whether the namespace made a signature of data with its kind.
func (n *Namespace) signedBy(data, signature []byte) bool {
	return len(signature) == ed25519.SignatureSize && ed25519.Verify(n.public, data, signature)
}

func withKind(kind string, data []byte) []byte { return append([]byte(kind+":"), data...) }
