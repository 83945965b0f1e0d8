package publish

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/volume"
)

// beginWith is Begin of a volume that is to have a key.
func (h *Heads) beginWith(given *volume.Key) (string, error) {
	if _, err := h.open(given); err != nil {
		return "", fmt.Errorf("%w: %w", err, volume.ErrInvalid)
	}
	v, err := h.volume(given.Volume)
	switch {
	case err != nil:
		return "", err
	case v.Removed():
		return "", fmt.Errorf("the key is that of volume %q, which is removed: %w\nwhere it was removed, `volary volume undelete` brings it back", v.Binding.Name, volume.ErrExist)
	case v.Binding.Data != nil || v.Head.Record != nil:
		return "", fmt.Errorf("the key is that of volume %q: %w", v.Binding.Name, volume.ErrExist)
	}
	return given.Volume, nil
}

func (h *Heads) open(given *volume.Key) (crypto.PrivKey, error) {
	name, err := namespace.ParseName(given.Volume)
	if err != nil {
		return nil, err
	}
	return h.o.Namespace.Unseal(name, given.Sealed)
}

// newKey is the key of a volume that has no binding yet, and the generation of its first one.
func (h *Heads) newKey(v table.Volume, t volume.Told) (crypto.PrivKey, uint64, error) {
	if t.Key == nil {
		return h.o.Table.NewKey(h.o.Namespace, t.Name)
	}
	key, err := h.open(t.Key)
	generation, err2 := h.o.Table.Generation(t.Name, v.Key)
	return key, generation, errors.Join(err, err2)
}
