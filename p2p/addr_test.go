package p2p

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const somebody = "/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"

func TestWhereToListenIsReadAsPeopleWriteIt(t *testing.T) {
	for _, c := range []struct {
		text    string
		private bool
		want    string // empty: refused
	}{
		{"127.0.0.1:4001", true, "[/ip4/127.0.0.1/tcp/4001]"},
		{"127.0.0.1:4001", false, "[/ip4/127.0.0.1/tcp/4001 /ip4/127.0.0.1/udp/4001/quic-v1]"},
		{"[::]:4001", true, "[/ip6/::/tcp/4001]"},
		{"/ip4/0.0.0.0/tcp/0", true, "[/ip4/0.0.0.0/tcp/0]"},
		{"/ip4/0.0.0.0/udp/4001/quic-v1", false, "[/ip4/0.0.0.0/udp/4001/quic-v1]"},
		{"/ip4/0.0.0.0/udp/4001/quic-v1", true, ""},
		{"/ip4/0.0.0.0/tcp/4001/ws", false, ""},
		{"/dns4/host/tcp/4001", true, ""},
		{"/ip4/0.0.0.0/tcp/4001" + somebody, true, ""},
		{":4001", true, ""}, {"4001", true, ""}, {"host:4001", true, ""}, {"", true, ""}, {"/", true, ""}, {"/ip4/1.2.3.4", true, ""},
		{"127.0.0.1:70000", true, ""}, {"/ip4/127.0.0.1/tcp/70000", true, ""}, {"[fe80::1%eth0]:4001", true, ""},
	} {
		got, err := ParseListen(c.text, c.private)
		if c.want == "" {
			if !errors.Is(err, ErrAddress) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: %v, %v", c.text, got, err)
			}
			continue
		}
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

func TestAPeerIsReadWithItsID(t *testing.T) {
	for _, text := range []string{"/ip4/10.0.0.1/tcp/4001" + somebody, "/dns4/host/tcp/4001" + somebody, "/ip6/::1/tcp/4001" + somebody} {
		p, err := ParsePeer(text, true)
		if err != nil || p.Addrs[0].String()+"/p2p/"+p.ID.String() != text {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
	for _, text := range []string{
		"", "/", somebody, "/ip4/10.0.0.1/tcp/4001", "10.0.0.1:4001", "/ip4/10.0.0.1/tcp/4001/p2p/x", "/ip4/10.0.0.1/udp/4001/quic-v1" + somebody,
		"/ip4/10.0.0.1/tcp/4001" + somebody + "/p2p-circuit" + somebody, "/dnsaddr/example.com" + somebody,
	} {
		if p, err := ParsePeer(text, true); !errors.Is(err, ErrAddress) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
}
