package gossip

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/dagcbor"
)

// wait is how long a test waits for what must come.
const wait = time.Minute

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ours(t testing.TB) *namespace.Namespace {
	return must(namespace.Open(namespace.Secret{1, 2, 3}))(t)
}

func otherNamespace(t testing.TB) *namespace.Namespace {
	return must(namespace.Open(namespace.Secret{9}))(t)
}

// volumeAt is a volume of a name at a state that a text names.
func volumeAt(t testing.TB, n *namespace.Namespace, name string, sequence uint64, state string) news {
	t.Helper()
	key := must(n.DeriveKey(name, 1))(t)
	return news{binding: must(n.Bind(name, key, 1, 0))(t), head: signed(t, key, sequence, state)}
}

func signed(t testing.TB, key crypto.PrivKey, sequence uint64, state string) head.Head {
	t.Helper()
	return must(head.Sign(key, commitCID(t, state), sequence, time.Unix(1700000000, 0)))(t)
}

func commitCID(t testing.TB, state string) cid.Cid {
	return must(dagcbor.Encode(state))(t).Cid()
}

// member is a host of a namespace, with a table on the disk.
type member struct {
	*Gossip
	t     testing.TB
	p2p   host.Host
	table *table.Table

	mu      sync.Mutex
	changed chan struct{} // closed with each call of Hear
	calls   []table.News
	onHear  func(table.News)
	refuse  error // what Hear says next
}

func listening(t testing.TB, o ...libp2p.Option) host.Host {
	t.Helper()
	o = append(o,
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Security(noise.ID, noise.New), libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ForceReachabilityPublic(),
		// With it, a host of libp2p v0.51 that is closed while many peers tell it something waits for ever.
		libp2p.DisableIdentifyAddressDiscovery(),
	)
	h := must(libp2p.New(o...))(t)
	t.Cleanup(func() { check(t, h.Close()) })
	return h
}

func newMember(t testing.TB, o Options, of ...libp2p.Option) *member {
	t.Helper()
	return newMemberOf(t, listening(t, of...), o)
}

func newMemberOf(t testing.TB, p2p host.Host, o Options) *member {
	t.Helper()
	h := &member{t: t, p2p: p2p, changed: make(chan struct{})}
	h.table = must(table.Open(filepath.Join(t.TempDir(), "heads.db"), nil))(t)
	t.Cleanup(func() { check(t, h.table.Close()) })
	if o.Namespace == nil {
		o.Namespace = ours(t)
	}
	o.Known, o.Hear = h.table, h.take
	h.Gossip = must(New(context.Background(), h.p2p, o))(t)
	t.Cleanup(func() { check(t, h.Close()) })
	return h
}

func (h *member) take(ctx context.Context, n table.News) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refuse; err != nil {
		h.refuse = nil
		return err
	}
	_, err := h.table.Learn(ctx, n)
	if h.onHear != nil {
		h.onHear(n)
	}
	h.calls = append(h.calls, n)
	close(h.changed)
	h.changed = make(chan struct{})
	return err
}

// learned is how many heads the host was told.
func (h *member) learned() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		n += len(c.Heads)
	}
	return n
}

// refuseOnce has the host not take over what it is told next.
func (h *member) refuseOnce(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = err
}

func (h *member) connect(to *member) {
	h.t.Helper()
	check(h.t, h.p2p.Connect(h.t.Context(), peer.AddrInfo{ID: to.p2p.ID(), Addrs: to.p2p.Addrs()}))
}

// know has a host learn something by itself, without telling anybody.
func (h *member) know(all ...news) {
	h.t.Helper()
	must(h.table.Learn(h.t.Context(), together(all)))(h.t)
}

// publish has a host know something and tell it.
func (h *member) publish(n news) {
	h.t.Helper()
	h.know(n)
	check(h.t, h.Publish(h.t.Context(), together([]news{n})))
}

// tips are the commits that a host takes for a volume's newest.
func (h *member) tips(volume ipns.Name) (all []cid.Cid) {
	v, err := h.table.Volume(volume)
	if err != nil || v.Head.Record == nil {
		return nil
	}
	for _, tip := range v.Tips() {
		all = append(all, tip.Commit)
	}
	return all
}

// until waits for something that is so only after Hear was called.
func (h *member) until(what string, is func() bool) {
	h.t.Helper()
	over := time.After(wait)
	for {
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		if is() {
			return
		}
		select {
		case <-changed:
		case <-over:
			h.t.Fatalf("%s did not come", what)
		}
	}
}

// untilAt waits until a host knows of a head.
func (h *member) untilAt(n news) {
	h.t.Helper()
	h.until(fmt.Sprintf("state %d of %s", n.head.Sequence, n.binding.Name), func() bool {
		return slices.Contains(h.tips(n.binding.Volume), n.head.Commit)
	})
}

// untilJoined waits until hosts know that the other ones are on the topic.
func untilJoined(t testing.TB, members ...*member) {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), wait)
	defer done()
	for _, h := range members {
		events := must(h.topic.EventHandler())(t)
		for seen := 0; seen < len(members)-1; {
			e := must(events.NextPeerEvent(ctx))(t)
			if e.Type == pubsub.PeerJoin {
				seen++
			}
		}
		events.Cancel()
	}
}
