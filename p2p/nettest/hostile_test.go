//go:build real

package nettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	mh "github.com/multiformats/go-multihash"
	"google.golang.org/protobuf/proto"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/p2p/exchange"
)

// A hostile host is in the swarm, and not of the namespace.
type hostile struct {
	host.Host
	t  *testing.T
	to peer.AddrInfo
}

func newHostile(t *testing.T, key pnet.PSK, to *Host) (*hostile, error) {
	h, err := libp2p.New(libp2p.PrivateNetwork(key), libp2p.Transport(tcp.NewTCPTransport), libp2p.NoListenAddrs, libp2p.DisableRelay(),
		libp2p.DisableMetrics(), libp2p.ForceReachabilityPublic(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		return nil, err
	}
	info, err := peer.AddrInfoFromString(to.address())
	if err != nil {
		return nil, err
	}
	x := &hostile{h, t, *info}
	t.Cleanup(func() { _ = h.Close() })
	return x, x.connect(t.Context())
}

func (x *hostile) connect(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, 15*time.Second)
	defer done()
	return x.Connect(network.WithForceDirectDial(ctx, "hostile"), x.to)
}

// say opens a stream and writes; wait is what happens then. Whatever goes wrong is the aim.
func (x *hostile) say(ctx context.Context, p protocol.ID, data []byte, wait func(network.Stream)) {
	limited, done := context.WithTimeout(ctx, 5*time.Second)
	defer done()
	s, err := x.NewStream(network.WithNoDial(limited, "hostile"), x.to.ID, p)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	_ = s.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := s.Write(data); err == nil {
		wait(s)
	}
	_ = s.Reset()
}

// frames are what a parser of lengths and messages must not stumble over.
func frames() [][]byte {
	noise := make([]byte, 100<<10)
	_, _ = rand.Read(noise)
	huge := binary.AppendUvarint(nil, 1<<40)
	return [][]byte{
		nil, noise, noise[:1], {0}, {0, 0, 0, 0},
		{0xff, 0xff, 0xff, 0xff}, slices.Concat([]byte{0x7f, 0xff, 0xff, 0xff}, noise),
		{0, 1, 0, 0}, slices.Concat([]byte{0, 0, 1, 0}, noise[:256]),
		bytes.Repeat([]byte{0xff}, 64), huge, slices.Concat(huge, noise),
		slices.Concat(binary.AppendUvarint(nil, 60<<10), noise[:60<<10]), slices.Concat([]byte{0, 0, 0xff, 0}, noise[:0xff00]),
	}
}

// again does something all the time, from so many goroutines, until ctx is done.
func (x *hostile) again(ctx context.Context, times int, do func()) {
	var all sync.WaitGroup
	for range times {
		all.Go(func() {
			for ctx.Err() == nil {
				do()
				_ = x.connect(ctx)
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	all.Wait()
}

// hold keeps a stream open, and does not read.
func hold(ctx context.Context) func(network.Stream) {
	return func(network.Stream) {
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Second):
		}
	}
}

// confuse sends to all protocols what they do not expect.
func (x *hostile) confuse(ctx context.Context) {
	var all sync.WaitGroup
	protocols, err := x.Peerstore().GetProtocols(x.to.ID)
	if err != nil {
		x.t.Error(err)
	}
	for _, p := range protocols {
		for i, f := range frames() {
			wait := hold(ctx)
			if i%2 == 0 {
				wait = func(network.Stream) {}
			}
			all.Go(func() { x.again(ctx, 1, func() { x.say(ctx, p, f, wait) }) })
		}
	}
	all.Wait()
}

// hoard asks for many blocks, and does not read them.
func (x *hostile) hoard(ctx context.Context, wanted []cid.Cid) {
	x.again(ctx, 20, func() {
		x.say(ctx, exchange.Protocol, ask(wanted), func(s network.Stream) {
			_ = s.CloseWrite()
			hold(ctx)(s)
		})
	})
}

// flood says on the topic what was said already, and what nobody signed.
func (x *hostile) flood(ctx context.Context, topic string, replay [][]byte) {
	var all sync.WaitGroup
	for _, data := range append(replay, []byte("no news"), make([]byte, 60<<10)) {
		rpc, err := proto.Marshal(&pb.RPC{Publish: []*pb.Message{{Data: data, Topic: &topic}}})
		if err != nil {
			x.t.Error(err)
		}
		frame := append(binary.AppendUvarint(nil, uint64(len(rpc))), rpc...)
		all.Go(func() {
			x.again(ctx, 1, func() {
				x.say(ctx, "/volary/gossip/1", frame, func(s network.Stream) {
					for range 20_000 {
						if _, err := s.Write(frame); err != nil || ctx.Err() != nil {
							return
						}
					}
				})
			})
		})
	}
	all.Wait()
}

// ask is a request for blocks.
func ask(cs []cid.Cid) []byte {
	data := binary.AppendUvarint(nil, uint64(len(cs)))
	for _, c := range cs {
		data = append(binary.AppendUvarint(data, uint64(c.ByteLen())), c.Bytes()...)
	}
	return data
}

// overhear is what is told on a topic, for being replayed.
func (x *hostile) overhear(topic string) (heard func() [][]byte) {
	ps, err := pubsub.NewGossipSub(x.t.Context(), x,
		pubsub.WithGossipSubProtocols([]protocol.ID{"/volary/gossip/1"}, func(pubsub.GossipSubFeature, protocol.ID) bool { return true }),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { return string(m.GetData()) }))
	if err != nil {
		x.t.Fatal(err)
	}
	joined, err := ps.Join(topic)
	if err != nil {
		x.t.Fatal(err)
	}
	sub, err := joined.Subscribe()
	if err != nil {
		x.t.Fatal(err)
	}
	var mu sync.Mutex
	var all [][]byte
	go func() {
		for {
			m, err := sub.Next(x.t.Context())
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, m.GetData())
			mu.Unlock()
		}
	}()
	return func() [][]byte {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// inSwarm makes hosts of one namespace in a swarm whose key others have as well.
func inSwarm(t *testing.T, names ...string) (n *Network, key pnet.PSK, all []*Host) {
	t.Helper()
	var swarm namespace.SwarmKey
	_, _ = rand.Read(swarm[:])
	n = New(t, program)
	for _, name := range names {
		h := n.Host(name)
		if len(all) == 0 {
			h.must(os.WriteFile(filepath.Join(h.Dir, "swarm.key"), swarm.File(), 0o600))
			h.Volary("init", "--listen", fmt.Sprint(h.IP, ":", Port), "--swarm-key", "swarm.key")
		} else {
			h.join(all...)
		}
		h.Start()
		all = append(all, h)
	}
	for _, h := range all {
		h.connected(len(all) - 1)
	}
	return n, swarm[:], all
}

func TestAHostileHostOfTheSwarmDoesNotKeepOthersFromWorking(t *testing.T) {
	n, key, hosts := inSwarm(t, "a", "b", "c")
	a, b, c := hosts[0], hosts[1], hosts[2]
	ns, _, err := namespace.ParseToken(a.Volary("token"))
	a.must(err)
	topic := "/volary/" + ns.ID() + "/heads/1"
	a.Volary("volume", "create", "data")
	a.Sh("mkdir big && head -c 48M /dev/urandom >big/f")
	a.Volary("snapshot", "big")
	wanted := blocksOf(a, "big/f")

	first, err := newHostile(t, key, a)
	a.must(err)
	heard := first.overhear(topic)
	for i := range 5 {
		arrives(t, "data", a.write("data", "f", fmt.Sprint(i)), hosts...)
	}
	until(t, soon, "what is told is overheard", func() bool { return len(heard()) >= 5 })

	ctx, stop := context.WithCancel(t.Context())
	var attacks sync.WaitGroup
	var begin []func()
	for _, attack := range []func(*hostile){
		func(x *hostile) { x.confuse(ctx) },
		func(x *hostile) { x.hoard(ctx, wanted) },
		func(x *hostile) { x.hoard(ctx, wanted) },
		func(x *hostile) { x.hoard(ctx, wanted) },
		func(x *hostile) { x.flood(ctx, topic, heard()) },
	} {
		for range 3 {
			x, err := newHostile(t, key, a)
			a.must(err)
			until(t, soon, "it is known what the host speaks", func() bool {
				speaks, err := x.Peerstore().GetProtocols(x.to.ID)
				return err == nil && slices.Contains(speaks, exchange.Protocol)
			})
			begin = append(begin, func() { attack(x) })
		}
	}
	for _, attack := range begin {
		attacks.Go(attack)
	}
	refused := outside(t, ctx, &attacks, a)

	time.Sleep(3 * time.Second) // they are at it
	var slowest time.Duration
	for i := range 2 {
		for _, h := range []*Host{a, c} {
			slowest = max(slowest, arrives(t, "data", h.write("data", h.Name, fmt.Sprint(h.Name, i)), hosts...))
		}
	}
	t.Logf("under attack, a head was known everywhere after at most %s", slowest.Round(time.Millisecond))
	a.Sh("head -c 8M /dev/urandom >big/f")
	began := time.Now()
	b.Volary("hydrate", a.Volary("snapshot", "big"))
	t.Logf("under attack, 8 MiB came from the host that is attacked in %s", time.Since(began).Round(time.Millisecond))
	late := n.Host("late")
	late.join(b)
	late.Start()
	head, _ := a.inspect("data")
	t.Logf("under attack, a host that joins knows all after %s", arrives(t, "data", head.Head, late).Round(time.Millisecond))
	until(t, soon, "who has no swarm key is refused", func() bool { return refused.Load() > 0 })
	until(t, soon, "who floods is disconnected", func() bool { return strings.Contains(a.Log(), "a peer floods; it is disconnected") })
	a.Runs()
	stop()
	attacks.Wait()

	most := a.MostMemory()
	t.Logf("the host that was attacked had %d MiB of memory at most", most>>20)
	if most > 768<<20 {
		t.Error("that is too much")
	}
	for _, h := range append(hosts, late) {
		if got := rows(h.Volary("volume", "ls", "-q")); !slices.Equal(got, []string{"data"}) {
			t.Errorf("host %s knows of %s", h.Name, got)
		}
	}
	agree(t, "data", 1, hosts...)
}

// outside has hosts without the swarm key connect to a host, and others say nothing or noise, until ctx is done.
func outside(t *testing.T, ctx context.Context, work *sync.WaitGroup, to *Host) (refused *atomic.Int64) {
	refused = new(atomic.Int64)
	var other namespace.SwarmKey
	_, _ = rand.Read(other[:])
	work.Go(func() {
		for ctx.Err() == nil {
			if _, err := newHostile(t, other[:], to); err == nil {
				t.Error("a host with another swarm key is connected")
			}
			refused.Add(1)
		}
	})
	for i := range 100 {
		work.Go(func() {
			for ctx.Err() == nil {
				c, err := net.DialTimeout("tcp4", net.JoinHostPort(to.IP, fmt.Sprint(Port)), time.Second)
				if err != nil {
					continue
				}
				if i%2 == 0 {
					_, _ = c.Write(frames()[1])
				}
				_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
				_, _ = c.Read(make([]byte, 64<<10))
				_ = c.Close()
				time.Sleep(200 * time.Millisecond)
			}
		})
	}
	return refused
}

// blocksOf are the chunks of a file.
func blocksOf(h *Host, file string) (all []cid.Cid) {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.Dir, file))
	h.must(err)
	for chunk := range slices.Chunk(data, 1<<20) {
		c, err := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: 32}.Sum(chunk)
		h.must(err)
		all = append(all, c)
	}
	return all
}
