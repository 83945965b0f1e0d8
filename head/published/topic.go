package published

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipns"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/head"
	"github.com/volary/volary/head/flood"
	"github.com/volary/volary/namespace"
)

const (
	topicPrefix = "/record/"
	// maxRPC bounds what is read from a peer at once, maxTopics how many topics it may name then.
	maxRPC    = 256 << 10
	maxTopics = 4096
	// burst has room for a host that tells all of its volumes again.
	burst = 20_000
	// farthest is for how many lifetimes a record of another host may be good: its clock may be wrong.
	farthest = 3
)

// topicOf is the topic on which everybody tells of an IPNS name.
func topicOf(name ipns.Name) string {
	return topicPrefix + base64.RawURLEncoding.EncodeToString(name.RoutingKey())
}

// volumeOf is the volume that a topic is of.
func volumeOf(topic string) (ipns.Name, bool) {
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(topic, topicPrefix))
	if err != nil {
		return ipns.Name{}, false
	}
	name, err := ipns.NameFromRoutingKey(key)
	if err != nil || namespace.CheckVolume(name) != nil || topicOf(name) != topic {
		return ipns.Name{}, false
	}
	return name, true
}

func (p *Publisher) newPubSub(ctx context.Context) (*pubsub.PubSub, error) {
	return pubsub.NewGossipSub(ctx, p.h,
		pubsub.WithFloodPublish(true),
		pubsub.WithMaxMessageSize(maxRPC),
		pubsub.WithMaxControlMessageSize(maxRPC),
		pubsub.WithPeerScore(
			&pubsub.PeerScoreParams{
				AppSpecificScore: p.guard.Score, AppSpecificWeight: 1,
				BehaviourPenaltyWeight: -1, BehaviourPenaltyThreshold: 6, BehaviourPenaltyDecay: 0.9,
				DecayInterval: time.Second, DecayToZero: 0.01, RetainScore: 10 * time.Minute,
				Topics: map[string]*pubsub.TopicScoreParams{},
			},
			&pubsub.PeerScoreThresholds{GossipThreshold: -50, PublishThreshold: -75, GraylistThreshold: -100},
		),
		pubsub.WithAppSpecificRpcInspector(p.guard.Inspect),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(filter{p}, maxTopics)),
	)
}

// scores have a peer not be listened to after four messages that are no records of the name.
func scores() *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		SkipAtomicValidation: true, TopicWeight: 1, TimeInMeshQuantum: time.Second,
		InvalidMessageDeliveriesWeight: -10, InvalidMessageDeliveriesDecay: 0.99,
	}
}

// filter has GossipSub remember only who subscribes to volumes that there are.
type filter struct{ p *Publisher }

// CanSubscribe implements [pubsub.SubscriptionFilter].
func (f filter) CanSubscribe(topic string) bool {
	name, ok := volumeOf(topic)
	return ok && (f.p.o.Known == nil || f.p.o.Known(name))
}

// FilterIncomingSubscriptions implements [pubsub.SubscriptionFilter].
func (f filter) FilterIncomingSubscriptions(_ peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	return pubsub.FilterSubscriptions(subs, f.CanSubscribe), nil
}

// open enters a volume's topic. What others tell on it is passed on and not kept.
func (p *Publisher) open(name ipns.Name) (*volume, error) {
	topic := topicOf(name)
	validate := func(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		return p.validate(name, from, m.GetData())
	}
	if err := p.ps.RegisterTopicValidator(topic, validate, pubsub.WithValidatorInline(true)); err != nil {
		return nil, err
	}
	t, err := p.ps.Join(topic)
	if err != nil {
		return nil, errors.Join(err, p.ps.UnregisterTopicValidator(topic))
	}
	leave, err := pubsub.RelayCancelFunc(nil), t.SetScoreParams(scores())
	if err == nil {
		leave, err = t.Relay()
	}
	if err != nil {
		return nil, errors.Join(err, t.Close(), p.ps.UnregisterTopicValidator(topic))
	}
	return &volume{topic: t, leave: leave}, nil
}

// validate passes on what is newer than what this host tells.
func (p *Publisher) validate(name ipns.Name, from peer.ID, data []byte) pubsub.ValidationResult {
	if from == p.h.ID() {
		return pubsub.ValidationAccept
	}
	h, err := head.Verify(name, data)
	if err != nil {
		p.o.Log.Debug("a peer told what is no record of a volume", "peer", from, "volume", name, "error", err)
		p.guard.Charge(from, flood.Invalid)
		return pubsub.ValidationReject
	}
	ours, ok := p.published(name)
	now := time.Now()
	// Hosts of the namespace have records of forks, and such as are good for ever. Neither is for others. One that is
	// over is no forgery: a clock may be wrong.
	if !ok || h.IsFork() || h.EndOfLife.Before(now) || h.EndOfLife.After(now.Add(farthest*p.o.Lifetime)) || !newer(h, ours) {
		return pubsub.ValidationIgnore
	}
	return pubsub.ValidationAccept
}

// newer reports whether IPFS programs take a record for newer than another one of the same name.
func newer(a, b head.Head) bool {
	return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), a.EndOfLife.Compare(b.EndOfLife)) > 0
}

// published is what is told of a volume.
func (p *Publisher) published(name ipns.Name) (head.Head, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.volumes[name]
	if v == nil {
		return head.Head{}, false
	}
	return v.copy, true
}
