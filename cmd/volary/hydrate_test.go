package main

import "testing"

func TestOnlyGatewaysAloneAreAskedForAllAtOnce(t *testing.T) {
	gateways := []string{"http://127.0.0.1:1"}
	for _, c := range []struct {
		what string
		config
		want bool
	}{
		{"gateways", config{Gateways: gateways}, true},
		{"nobody", config{}, false},
		{"hosts before gateways", config{Gateways: gateways, Peers: []string{"/ip4/127.0.0.1/tcp/1/p2p/x"}}, false},
		{"a Kubo daemon", config{Gateways: gateways, Kubo: "http://127.0.0.1:2"}, false},
	} {
		got, err := (&home{config: c.config}).whole()
		if err != nil || (got != nil) != c.want {
			t.Errorf("%s: all at once is %v, %v, want %v", c.what, got != nil, err, c.want)
		}
	}
	if _, err := (&home{config: config{Gateways: []string{"nowhere"}}}).whole(); err == nil {
		t.Error("a gateway that is no address is taken")
	}
}
