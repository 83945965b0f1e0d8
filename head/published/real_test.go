//go:build real

package published

import (
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/head"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

// connectKubo connects a host to a daemon that resolves IPNS names by PubSub.
func connectKubo(t *testing.T, h host.Host) *kubotest.Daemon {
	t.Helper()
	d := kubotest.Start(t, kubotest.Options{Config: map[string]any{"Ipns.UsePubsub": true, "Pubsub.Enabled": true}})
	at := must(d.SwarmAddr(t.Context()))(t)
	check(t, h.Connect(t.Context(), *must(peer.AddrInfoFromString(at))(t)))
	return d
}

func TestAKuboDaemonResolvesAPublishedVolume(t *testing.T) {
	one, two := headOf(t, "data", 1, "one"), headOf(t, "data", 2, "two")
	p, h := newPublisher(t, Options{})
	check(t, p.Put(t.Context(), key(t, "data"), one))
	d := connectKubo(t, h)
	for _, want := range []head.Head{one, two} {
		check(t, p.Put(t.Context(), key(t, "data"), want))
		began := time.Now()
		for {
			out, err := d.Run(t.Context(), "name", "resolve", "--nocache", "/ipns/"+one.Volume.String())
			if err == nil && strings.TrimSpace(out) == "/ipfs/"+want.Commit.String()+"/tree" {
				t.Logf("state %d resolved after %s", want.Sequence, time.Since(began).Round(time.Millisecond))
				break
			}
			if time.Since(began) > wait {
				t.Fatalf("state %d: %s, %v", want.Sequence, out, err)
			}
		}
	}
}
