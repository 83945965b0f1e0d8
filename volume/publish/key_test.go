package publish_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/volume"
)

// foreignKey is the key of a volume of another namespace, as who has the secret of w's gives it to a host.
func (w *world) foreignKey(name string) *volume.Key {
	w.t.Helper()
	other, err := namespace.Open(namespace.NewSecret())
	w.must(err)
	key, err := other.DeriveKey(name, 1)
	w.must(err)
	ns, err := namespace.Open(w.secret)
	w.must(err)
	id, sealed, err := ns.Seal(key)
	w.must(err)
	return &volume.Key{Volume: id.String(), Sealed: sealed}
}

func TestAVolumeWithAKeyIsThatOneOnAllHosts(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	key := w.foreignKey("theirs")
	a.do(&volume.Create{Name: "data", Key: key})
	a.change("data", "f", "one")
	b.learn()
	b.change("data", "g", "two")
	b.do(&volume.Rename{Name: "data", To: "moved"})
	a.learn()
	if !a.has("moved", "g") || a.info("moved").ID != key.Volume || b.info("moved").ID != key.Volume {
		t.Errorf("one host has %+v, the other %+v", a.info("moved"), b.info("moved"))
	}
	for _, h := range []*host{a, b} {
		if _, err := h.Do(t.Context(), &volume.Create{Name: "again", Key: key}); !errors.Is(err, volume.ErrExist) {
			t.Errorf("a key that is known: %v", err)
		}
	}
}

func TestAVolumeWithAKeyIsToldAgainOnceTheTableIsLost(t *testing.T) {
	w := newWorld(t)
	a := w.host()
	key := w.foreignKey("theirs")
	a.do(&volume.Create{Name: "data", Key: key})
	a.close()
	w.must(os.Remove(filepath.Join(a.dir, "heads.db")))
	a.open()
	w.must(a.Start(t.Context()))
	if at, err := a.heads.Find(t.Context(), "data"); err != nil || at.ID != key.Volume {
		t.Errorf("the table has %+v, %v", at, err)
	}
}

func TestAKeyThatTheSecretDoesNotOpenIsRefused(t *testing.T) {
	w := newWorld(t)
	a := w.host()
	key := w.foreignKey("theirs")
	key.Sealed[20]++
	if _, err := a.Do(t.Context(), &volume.Create{Name: "data", Key: key}); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("the error is %v", err)
	}
	a.wantNames()
}
