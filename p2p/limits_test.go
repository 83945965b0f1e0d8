package p2p

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// flooder is a host of the swarm that has no limits itself.
func flooder(t *testing.T, o Options) host.Host {
	t.Helper()
	made, err := libp2p.New(libp2p.Identity(newIdentity(t)), libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.PrivateNetwork(pnet.PSK(o.SwarmKey[:])), libp2p.Transport(tcp.NewTCPTransport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close() })
	return made
}

// heap is what is in use of the heap after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func stat(t *testing.T, h *Host) rcmgr.ResourceManagerStat {
	t.Helper()
	s, is := h.libp2p.Network().ResourceManager().(rcmgr.ResourceManagerState)
	if !is {
		t.Fatal("the resource manager does not say what it has given")
	}
	return s.Stat()
}

const flood = 10_000

func TestAPeerThatOpensTooManyStreamsTakesNoMoreThanItsShare(t *testing.T) {
	o := Options{SwarmKey: newSwarmKey(t)}
	h := newHost(t, o)
	f := flooder(t, o)
	var mu sync.Mutex
	most, served := 0, 0
	h.libp2p.SetStreamHandler("/test/hold", func(s network.Stream) {
		n := stat(t, h).Peers[f.ID()].NumStreamsInbound
		mu.Lock()
		most, served = max(most, n), served+1
		mu.Unlock()
		io.Copy(io.Discard, s)
	})
	if err := f.Connect(t.Context(), infoOf(h)); err != nil {
		t.Fatal(err)
	}
	before := heap()
	refused := 0
	for range flood {
		ctx, done := context.WithTimeout(t.Context(), 2*time.Second)
		s, err := f.NewStream(ctx, h.libp2p.ID(), "/test/hold")
		done()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		if err != nil {
			refused++
		}
		if refused > 100 {
			break // nothing it does is answered any more
		}
	}
	eventually(t, "it has its share", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return served > 100
	})
	mu.Lock()
	defer mu.Unlock()
	if most > DefaultMaxPeerStreams {
		t.Errorf("%d streams were there at a time", most)
	}
	grown := heap() - before
	if grown > DefaultMaxPeerMemory {
		t.Errorf("%d MiB more are in use", grown>>20)
	}
	t.Logf("%d streams at a time, %d in all, %d KiB more in use", most, served, grown>>10)
	// Others are served all the same.
	other := newHost(t, Options{SwarmKey: o.SwarmKey, Peers: []peer.AddrInfo{infoOf(h)}})
	eventually(t, "another host is served", func() bool { return peerOf(other, h).Latency > 0 })
}

func TestAPeerHasFewConnections(t *testing.T) {
	o := Options{SwarmKey: newSwarmKey(t)}
	h := newHost(t, o)
	f := flooder(t, o)
	for range 50 {
		// One that is refused ends when it is first used.
		f.Network().(*swarm.Swarm).Backoff().Clear(h.libp2p.ID())
		ctx, done := context.WithTimeout(network.WithForceDirectDial(t.Context(), "flood"), 2*time.Second)
		if c, err := dialAgain(ctx, f, h); err == nil {
			defer c.Close()
		}
		done()
		if n := stat(t, h).Peers[f.ID()].NumConnsInbound; n > maxPeerConns {
			t.Fatalf("it has %d connections", n)
		}
	}
}

// dialAgain makes a connection beside those that there are.
func dialAgain(ctx context.Context, f host.Host, h *Host) (transport.CapableConn, error) {
	addr := h.libp2p.Addrs()[0]
	c, err := f.Network().(*swarm.Swarm).TransportForDialing(addr).Dial(ctx, addr, h.libp2p.ID())
	if err == nil {
		_, err = c.OpenStream(ctx)
	}
	return c, err
}

// Who connects and says nothing may do so for a while, and there are never many.
func TestStrangersWhoConnectAndSayNothingAreFew(t *testing.T) {
	o := Options{SwarmKey: newSwarmKey(t)}
	h := newHost(t, o)
	_, where, err := manet.DialArgs(h.libp2p.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	dialer := net.Dialer{Timeout: patience}
	closed := make(chan struct{}, 500)
	var conns []net.Conn
	for range cap(closed) {
		c, err := dialer.DialContext(t.Context(), "tcp", where)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		go func() {
			io.Copy(io.Discard, c)
			closed <- struct{}{}
		}()
		if n := stat(t, h).Transient.NumConnsInbound; n > DefaultMaxConns/3 {
			t.Fatalf("%d connections wait to be let in", n)
		}
	}
	for range cap(closed) - DefaultMaxConns/3 {
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatal("more are waited for than may be")
		}
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("%d MiB more are in use", grown>>20)
	}
	for _, c := range conns {
		c.Close()
	}
	other := newHost(t, Options{SwarmKey: o.SwarmKey, Peers: []peer.AddrInfo{infoOf(h)}})
	eventually(t, "another host gets in", func() bool { return connectedTo(other, h) })
}

// connectAll has as many hosts as may be behind an address connect from there, and returns how many are refused.
func connectAll(t *testing.T, resources network.ResourceManager, from string, hosts int) (refused int) {
	t.Helper()
	at, err := ma.NewMultiaddr(from)
	if err != nil {
		t.Fatal(err)
	}
	for range hosts {
		c, err := resources.OpenConnection(network.DirInbound, true, at)
		if err != nil {
			refused++
			continue
		}
		c.Done()
	}
	return refused
}

func TestHostsBehindOneAddressComeBackAtOnce(t *testing.T) {
	resources, err := Limits{}.withDefaults().resources()
	if err != nil {
		t.Fatal(err)
	}
	defer resources.Close()
	for range 2 {
		if refused := connectAll(t, resources, "/ip4/192.0.2.1/tcp/4001", maxIPConns); refused > 0 {
			t.Errorf("%d of %d were refused", refused, maxIPConns)
		}
	}
	if refused := connectAll(t, resources, "/ip4/192.0.2.1/tcp/4001", 10*maxIPConns); refused < 9*maxIPConns {
		t.Errorf("of far too many only %d were refused", refused)
	}
	if refused := connectAll(t, resources, "/ip4/192.0.2.2/tcp/4001", maxIPConns); refused > 0 {
		t.Error("another address pays for it")
	}
}
