package published

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/volary/volary/head"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot"
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

func listening(t testing.TB) host.Host {
	t.Helper()
	h := must(libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics(),
		libp2p.ForceReachabilityPublic(), libp2p.DisableIdentifyAddressDiscovery()))(t)
	t.Cleanup(func() { check(t, h.Close()) })
	return h
}

func key(t testing.TB, name string) crypto.PrivKey {
	t.Helper()
	n := must(namespace.Open(namespace.Secret{1, 2, 3}))(t)
	return must(n.DeriveKey(name, 1))(t)
}

func headOf(t testing.TB, name string, sequence uint64, state string) head.Head {
	t.Helper()
	return must(head.Sign(key(t, name), must(dagcbor.Encode(state))(t).Cid(), sequence, time.Unix(1700000000, 0)))(t)
}

// forkOf is a head of a branch that lost.
func forkOf(t testing.TB, name string, sequence uint64) head.Head {
	t.Helper()
	winner := snapshot.State{CID: must(dagcbor.Encode("winner"))(t).Cid(), Sequence: 1}
	c := snapshot.Commit{Sequence: sequence, Time: time.Unix(1700000000, 0), Fork: winner}
	return must(head.SignCommit(key(t, name), must(dagcbor.Encode("fork"))(t).Cid(), &c))(t)
}

// plainRecord is a record of the key that is of something else than a volume's head.
func plainRecord(t testing.TB, k crypto.PrivKey, sequence uint64) []byte {
	t.Helper()
	value := path.FromCid(must(dagcbor.Encode("x"))(t).Cid())
	r := must(ipns.NewRecord(k, value, sequence, time.Now().Add(time.Hour), time.Minute, ipns.WithV1Compatibility(false)))(t)
	return must(ipns.MarshalRecord(r))(t)
}

func newPublisher(t testing.TB, o Options) (*Publisher, host.Host) {
	t.Helper()
	h := listening(t)
	p := must(New(context.Background(), h, o))(t)
	t.Cleanup(func() { check(t, p.Close()) })
	return p, h
}

// program is another IPFS program that subscribes to a name, as Kubo does.
type program struct {
	t     testing.TB
	h     host.Host
	topic *pubsub.Topic
	sub   *pubsub.Subscription
}

func subscribe(t testing.TB, name ipns.Name, to host.Host) *program {
	t.Helper()
	p := &program{t: t, h: listening(t)}
	ps := must(pubsub.NewGossipSub(t.Context(), p.h))(t)
	p.topic = must(ps.Join(topicOf(name)))(t)
	p.sub = must(p.topic.Subscribe())(t)
	events := must(p.topic.EventHandler())(t)
	check(t, p.h.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}))
	must(events.NextPeerEvent(t.Context()))(t)
	return p
}

func (p *program) next() *ipns.Record {
	p.t.Helper()
	ctx, done := context.WithTimeout(p.t.Context(), wait)
	defer done()
	m := must(p.sub.Next(ctx))(p.t)
	return must(ipns.UnmarshalRecord(m.GetData()))(p.t)
}

// fetch asks for the record of a name; nil if there is none.
func (p *program) fetch(from host.Host, identifier []byte) []byte {
	p.t.Helper()
	s := must(p.h.NewStream(network.WithNoDial(p.t.Context(), "test"), from.ID(), fetchProtocol))(p.t)
	request := protowire.AppendBytes(protowire.AppendTag(nil, fieldIdentifier, protowire.BytesType), identifier)
	must(s.Write(append(binary.AppendUvarint(nil, uint64(len(request))), request...)))(p.t)
	check(p.t, s.CloseWrite())
	answer := must(io.ReadAll(s))(p.t)
	size, n := binary.Uvarint(answer)
	if int(size) != len(answer)-n {
		p.t.Fatalf("answer of %d bytes says that it has %d", len(answer)-n, size)
	}
	field, _, m := protowire.ConsumeTag(answer[n:])
	if field != fieldData {
		return nil
	}
	data, _ := protowire.ConsumeBytes(answer[n+m:])
	return data
}

func TestWhoSubscribesToAPublishedVolumeHearsOfEachHead(t *testing.T) {
	one, two := headOf(t, "data", 1, "one"), headOf(t, "data", 2, "two")
	known := func(name ipns.Name) bool { return name == one.Volume }
	p, h := newPublisher(t, Options{Known: known, Every: 100 * time.Millisecond})
	check(t, p.Put(t.Context(), key(t, "data"), one))
	other := subscribe(t, one.Volume, h)
	for _, want := range []head.Head{one, two} {
		check(t, p.Put(t.Context(), key(t, "data"), want))
		for {
			r := other.next()
			check(t, ipns.ValidateWithName(r, one.Volume))
			if seq := must(r.Sequence())(t); seq != want.Sequence {
				continue
			}
			if value := must(r.Value())(t).String(); value != "/ipfs/"+want.Commit.String()+"/tree" {
				t.Errorf("value %s", value)
			}
			if eol := must(r.Validity())(t); eol.After(time.Now().Add(DefaultLifetime)) || eol.Before(time.Now().Add(DefaultLifetime/2)) {
				t.Errorf("good until %s", eol)
			}
			break
		}
	}
	if err := p.Put(t.Context(), key(t, "data"), one); err != nil {
		t.Error(err)
	}
	got := other.fetch(h, two.Volume.RoutingKey())
	if r := must(ipns.UnmarshalRecord(got))(t); must(r.Sequence())(t) != 2 {
		t.Error("an older head took the place of a newer one")
	}
	check(t, p.Drop(one.Volume))
	if got := other.fetch(h, two.Volume.RoutingKey()); got != nil {
		t.Error("what is not published any more is given")
	}
	check(t, p.Put(t.Context(), key(t, "data"), one))
	if got := other.fetch(h, two.Volume.RoutingKey()); got == nil {
		t.Error("what is published again is not given")
	}
}

func TestACopyIsReplacedBeforeItsTimeIsOver(t *testing.T) {
	h := headOf(t, "data", 1, "one")
	p, p2p := newPublisher(t, Options{Lifetime: 4 * time.Second, Every: 100 * time.Millisecond})
	check(t, p.Put(t.Context(), key(t, "data"), h))
	other := subscribe(t, h.Volume, p2p)
	first := must(other.next().Validity())(t)
	for {
		r := other.next()
		check(t, ipns.ValidateWithName(r, h.Volume))
		if must(r.Validity())(t).After(first) {
			break
		}
	}
}

func TestOnlyTheVolumesKeySigns(t *testing.T) {
	p, _ := newPublisher(t, Options{})
	if err := p.Put(t.Context(), key(t, "other"), headOf(t, "data", 1, "one")); !errors.Is(err, head.ErrSignature) {
		t.Errorf("%v, want %v", err, head.ErrSignature)
	}
}

func TestOnlyWhatIsNewerIsPassedOn(t *testing.T) {
	p, _ := newPublisher(t, Options{})
	two := headOf(t, "data", 2, "two")
	check(t, p.Put(t.Context(), key(t, "data"), two))
	from := must(peer.IDFromPublicKey(key(t, "peer").GetPublic()))(t)
	copied := func(h head.Head, until time.Duration) []byte {
		return must(h.Copy(key(t, "data"), time.Now().Add(until)))(t).Record
	}
	three := headOf(t, "data", 3, "three")
	for what, c := range map[string]struct {
		data []byte
		want pubsub.ValidationResult
	}{
		"a newer head":         {copied(three, time.Hour), pubsub.ValidationAccept},
		"a longer life":        {copied(two, 2*DefaultLifetime), pubsub.ValidationAccept},
		"what is told here":    {must(p.volumes[two.Volume].copy.Record, nil)(t), pubsub.ValidationIgnore},
		"an older head":        {copied(headOf(t, "data", 1, "one"), 2*DefaultLifetime), pubsub.ValidationIgnore},
		"another volume's":     {headOf(t, "other", 3, "three").Record, pubsub.ValidationReject},
		"what is over":         {copied(three, -time.Hour), pubsub.ValidationIgnore},
		"what never is over":   {three.Record, pubsub.ValidationIgnore},
		"a fork":               {must(forkOf(t, "data", 9).Copy(key(t, "data"), time.Now().Add(time.Hour)))(t).Record, pubsub.ValidationIgnore},
		"no head":              {plainRecord(t, key(t, "data"), 9), pubsub.ValidationReject},
		"no record":            {[]byte("x"), pubsub.ValidationReject},
		"what is cut":          {three.Record[:50], pubsub.ValidationReject},
		"what is far too long": {make([]byte, ipns.MaxRecordSize+1), pubsub.ValidationReject},
	} {
		if got := p.validate(two.Volume, from, c.data); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}

// forgeries is how many messages that are no records a peer may tell before it is not listened to.
const forgeries = 4

// noted has an element for each time that one thing is logged.
type noted struct {
	slog.Handler
	text  string
	times chan struct{}
}

func note(text string) (*slog.Logger, noted) {
	n := noted{slog.DiscardHandler, text, make(chan struct{}, 1024)}
	return slog.New(n), n
}

func (n noted) Enabled(context.Context, slog.Level) bool { return true }

func (n noted) Handle(_ context.Context, r slog.Record) error {
	if r.Message == n.text {
		n.times <- struct{}{}
	}
	return nil
}

// wait waits until that was logged as often.
func (n noted) wait(t testing.TB, times int) {
	t.Helper()
	over := time.After(wait)
	for range times {
		select {
		case <-n.times:
		case <-over:
			t.Fatalf("%q is not logged %d times", n.text, times)
		}
	}
}

func TestWhatAPeerTellsThatForgesIsNotPassedOn(t *testing.T) {
	one := headOf(t, "data", 1, "one")
	log, refused := note("a peer told what is no record of a volume")
	p, h := newPublisher(t, Options{Every: 50 * time.Millisecond, Log: log})
	check(t, p.Put(t.Context(), key(t, "data"), one))
	forger, other := subscribe(t, one.Volume, h), subscribe(t, one.Volume, h)
	record := func(sequence uint64) []byte {
		return must(headOf(t, "data", sequence, "x").Copy(key(t, "data"), time.Now().Add(time.Hour)))(t).Record
	}
	// What it says before there is a stream goes nowhere.
	for seq := uint64(0); seq != 2; seq = must(other.next().Sequence())(t) {
		check(t, forger.topic.Publish(t.Context(), record(2)))
	}
	for i := range forgeries {
		check(t, forger.topic.Publish(t.Context(), []byte{byte(i)}))
	}
	refused.wait(t, forgeries)
	// What it says at once can be passed on before the last one counts.
	const later, last = 10, 100
	passed := map[uint64]bool{}
	for i := range uint64(later) {
		check(t, forger.topic.Publish(t.Context(), record(3+i)))
		passed[must(other.next().Sequence())(t)] = true // at least what is told again and again comes
	}
	check(t, p.Put(t.Context(), key(t, "data"), headOf(t, "data", last, "the last")))
	for seq := uint64(0); seq != last; {
		seq = must(other.next().Sequence())(t)
		passed[seq] = true
	}
	if len(passed) > later/2 {
		t.Errorf("%d records of a peer that forges were passed on", len(passed)-2)
	}
}

func TestAForkIsNotPublished(t *testing.T) {
	one, fork := headOf(t, "data", 1, "one"), forkOf(t, "data", 5)
	p, h := newPublisher(t, Options{})
	other := &program{t: t, h: listening(t)}
	check(t, other.h.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}))
	check(t, p.Put(t.Context(), key(t, "data"), fork))
	if got := other.fetch(h, one.Volume.RoutingKey()); got != nil {
		t.Error("a fork is given")
	}
	check(t, p.Put(t.Context(), key(t, "data"), one))
	check(t, p.Put(t.Context(), key(t, "data"), fork))
	if r := must(ipns.UnmarshalRecord(other.fetch(h, one.Volume.RoutingKey())))(t); must(r.Sequence())(t) != 1 {
		t.Error("a fork took the place of the head")
	}
}

func TestAPeerThatFloodsIsDisconnectedAndOthersHear(t *testing.T) {
	one, two := headOf(t, "data", 1, "one"), headOf(t, "data", 2, "two")
	p, h := newPublisher(t, Options{Rate: 10, Burst: 20, Every: 100 * time.Millisecond})
	check(t, p.Put(t.Context(), key(t, "data"), one))
	rpc := must(proto.Marshal(&pb.RPC{Publish: []*pb.Message{{Data: []byte("x"), Topic: new(topicOf(one.Volume))}}}))(t)
	for what, f := range map[string]struct {
		protocol protocol.ID
		say      []byte
		times    int // on one stream
	}{
		"of records":   {pubsub.GossipSubID_v11, append(binary.AppendUvarint(nil, uint64(len(rpc))), rpc...), 10_000},
		"of questions": {fetchProtocol, []byte{0}, 1},
	} {
		flooder := listening(t)
		check(t, flooder.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}))
		for over := time.Now().Add(wait); flooder.Network().Connectedness(h.ID()) == network.Connected; {
			if time.Now().After(over) {
				t.Fatalf("a flood %s goes on", what)
			}
			s, err := flooder.NewStream(network.WithNoDial(t.Context(), "test"), h.ID(), f.protocol)
			for i := 0; err == nil && i < f.times; i++ {
				_, err = s.Write(f.say)
			}
			if err == nil {
				_ = s.Close()
			}
		}
	}
	other := subscribe(t, one.Volume, h)
	check(t, p.Put(t.Context(), key(t, "data"), two))
	for seq := uint64(0); seq != 2; {
		seq = must(other.next().Sequence())(t)
	}
}

func TestOnlyVolumesThatThereAreCanBeSubscribedTo(t *testing.T) {
	data, other := headOf(t, "data", 1, "x").Volume, headOf(t, "other", 1, "x").Volume
	f := filter{&Publisher{o: Options{Known: func(name ipns.Name) bool { return name == data }}}}
	for topic, want := range map[string]bool{
		topicOf(data): true, topicOf(other): false, topicOf(data) + "=": false, "/record/": false, "": false, "x" + topicOf(data): false,
	} {
		if f.CanSubscribe(topic) != want {
			t.Errorf("%q: %v", topic, !want)
		}
	}
}

func FuzzRequest(f *testing.F) {
	name := headOf(f, "data", 1, "x").Volume
	request := protowire.AppendBytes(protowire.AppendTag(nil, fieldIdentifier, protowire.BytesType), name.RoutingKey())
	request = append(binary.AppendUvarint(nil, uint64(len(request))), request...)
	if got := must(readRequest(bytes.NewReader(request)))(f); got != name {
		f.Errorf("read %s", got)
	}
	f.Add(request)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := readRequest(bytes.NewReader(data)); err != nil && !errors.Is(err, errRequest) {
			t.Error(err)
		}
	})
}
