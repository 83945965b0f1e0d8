package gateway_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/snapshot"
)

// signer is a name, and makes its records.
type signer struct {
	t    *testing.T
	key  crypto.PrivKey
	name ipns.Name
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer{t, key, ipns.NameFromPeer(id)}
}

func (s signer) record(sequence uint64, life time.Duration) []byte {
	s.t.Helper()
	value, err := path.NewPath("/ipfs/bafkreicvm4ey3iciqwofsd27bfltkzwl47gdvkl6i3ggfzxc6h4jidrgqy")
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := ipns.NewRecord(s.key, value, sequence, time.Now().Add(life), time.Minute, ipns.WithV1Compatibility(false))
	if err != nil {
		s.t.Fatal(err)
	}
	data, err := ipns.MarshalRecord(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// answers is a gateway that says the same to everybody who asks for a record.
func answers(t *testing.T, code int, body []byte) string {
	return handle(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/ipns/k51") || r.Header.Get("Accept") != "application/vnd.ipfs.ipns-record" {
			http.Error(w, "unexpected", http.StatusBadRequest)
			return
		}
		w.WriteHeader(code)
		w.Write(body)
	})
}

func TestTheNewestRecordOfAllGatewaysCounts(t *testing.T) {
	s := newSigner(t)
	old, now := s.record(3, time.Hour), s.record(4, time.Hour)
	expired := s.record(9, -time.Hour)
	g := open(t, answers(t, 200, old), answers(t, 500, nil), answers(t, 200, now), answers(t, 200, expired), answers(t, 200, old))
	got, err := g.Record(t.Context(), s.name)
	if err != nil || !bytes.Equal(got, now) {
		t.Errorf("%v", err)
	}
}

func TestARecordThatProvesNothingIsRefused(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	changed := s.record(4, time.Hour)
	changed[len(changed)/2]++
	for want, answer := range map[string]string{
		"does not count: ":         answers(t, 200, other.record(1, time.Hour)),
		"record does not count":    answers(t, 200, changed),
		"expired":                  answers(t, 200, s.record(1, -time.Hour)),
		"record is malformed":      answers(t, 200, nil),
		"more than 10240 bytes":    answers(t, 200, make([]byte, 1<<20)),
		"it answered 500":          answers(t, 500, nil),
		"no record of that name":   answers(t, 404, nil),
		"connection refused":       "http://127.0.0.1:1",
		"of a volume there is one": answers(t, 404, nil),
	} {
		_, err := open(t, answer).Record(t.Context(), s.name)
		if !errors.Is(err, snapshot.ErrNotFetched) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := open(t).Record(t.Context(), s.name); !errors.Is(err, snapshot.ErrNotFetched) {
		t.Errorf("without a gateway: %v", err)
	}
}
