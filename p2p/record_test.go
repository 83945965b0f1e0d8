package p2p

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-varint"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// signed is a record that is the same in every run.
func signed(t testing.TB, seed byte, seq uint64, addrs ...string) addresses {
	t.Helper()
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	var all []ma.Multiaddr
	for _, a := range addrs {
		all = append(all, ma.StringCast(a))
	}
	r, err := sign(key, seq, all)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func golden(t testing.TB) []addresses {
	return []addresses{
		signed(t, 1, 1, "/ip4/10.0.0.1/tcp/4001"), signed(t, 2, 7),
		signed(t, 3, 1<<63, "/ip6/2001:db8::1/tcp/4001", "/ip4/10.0.0.3/udp/4001/quic-v1"),
	}
}

func TestTheBytesOfRecordsStayTheSame(t *testing.T) {
	for name, got := range map[string][]byte{"peers.bin": encodeRecords(golden(t)), "known.bin": encodeKnown(golden(t)[:1])} {
		file := filepath.Join("testdata", "golden", name)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is now\n%x\nand was\n%x", name, got, want)
		}
	}
	b, err := os.ReadFile(filepath.Join("testdata", "golden", "peers.bin"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := decodeRecords(b, maxTold)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range golden(t) {
		if got := all[i]; got.id != want.id || got.seq != want.seq || !sameAddrs(got.addrs, want.addrs) {
			t.Errorf("record %d is %+v, want %+v", i, got, want)
		}
	}
}

func TestRecordsThatCannotBeBelievedAreRefused(t *testing.T) {
	one := signed(t, 1, 1, "/ip4/10.0.0.1/tcp/4001")
	frame := func(raw []byte) []byte {
		return append([]byte{1}, append(varint.ToUvarint(uint64(len(raw))), raw...)...)
	}
	forged := bytes.Clone(one.raw)
	forged[len(forged)-1] ^= 1
	cases := map[string][]byte{
		"a forged one":           frame(forged),
		"one with more behind":   frame(append(bytes.Clone(one.raw), 0x2a, 0x00)), // an empty field of protobuf
		"more than one is told":  append([]byte{2}, frame(one.raw)[1:]...),
		"too many":               encodeRecords(make([]addresses, maxTold+1)),
		"too large":              frame(make([]byte, maxRecord+1)),
		"bytes behind":           append(frame(one.raw), 0),
		"a number of two shapes": append([]byte{0x81, 0x00}, frame(one.raw)[1:]...),
		"cut":                    frame(one.raw)[:40],
		"nothing":                {},
	}
	for name, b := range cases {
		if all, err := decodeRecords(b, maxTold); err == nil {
			t.Errorf("%s: %d records", name, len(all))
		}
	}
	if _, err := decodeKnown(encodeRecords([]addresses{one})); !errors.Is(err, ErrFormat) {
		t.Errorf("without its header: %v", err)
	}
}

func TestAddressesThatNobodyHereCanUseAreLeftOut(t *testing.T) {
	r := signed(t, 1, 1, "/ip4/10.0.0.1/tcp/4001", "/ip4/10.0.0.1/tcp/80/ws", "/dns4/elsewhere/tcp/4001",
		"/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit")
	got, err := verify(r.raw)
	if err != nil || len(got.addrs) != 1 || got.addrs[0].String() != "/ip4/10.0.0.1/tcp/4001" {
		t.Errorf("%v, %v", got.addrs, err)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(encodeRecords(golden(f)))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := decodeRecords(b, maxTold)
		if err != nil {
			return
		}
		if again := encodeRecords(all); !bytes.Equal(again, b) {
			t.Errorf("%x is encoded as %x", b, again)
		}
	})
}

func FuzzKnown(f *testing.F) {
	f.Add(encodeKnown(golden(f)))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := decodeKnown(b)
		if err != nil {
			return
		}
		if again := encodeKnown(all); !bytes.Equal(again, b) {
			t.Errorf("%x is encoded as %x", b, again)
		}
	})
}
