package head

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// Copy signs the head again, with an end of life that IPFS programs outside of the namespace go by. It is the same head,
// in another record.
func (h Head) Copy(key crypto.PrivKey, until time.Time) (Head, error) {
	again, err := sign(key, Head{Commit: h.Commit, Sequence: h.Sequence, EndOfLife: until, Fork: h.Fork})
	if err == nil && again.Volume != h.Volume {
		err = fmt.Errorf("the key is that of %s: %w", again.Volume, ErrSignature)
	}
	if err != nil {
		return Head{}, fmt.Errorf("sign head %s again: %w", h.Commit, err)
	}
	return again, nil
}
