package published

import (
	"bytes"
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

	"github.com/volary/volary/namespace"
)

const (
	topicPrefix = "/record/"
	// maxRPC bounds what is read from a peer at once, maxTopics how many topics it may name then.
	maxRPC    = 256 << 10
	maxTopics = 4096
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
				AppSpecificScore:       func(peer.ID) float64 { return 0 },
				BehaviourPenaltyWeight: -1, BehaviourPenaltyThreshold: 6, BehaviourPenaltyDecay: 0.9,
				DecayInterval: time.Second, DecayToZero: 0.01, RetainScore: 10 * time.Minute,
				Topics: map[string]*pubsub.TopicScoreParams{},
			},
			&pubsub.PeerScoreThresholds{GossipThreshold: -50, PublishThreshold: -75, GraylistThreshold: -100},
		),
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
	r, err := ipns.UnmarshalRecord(data)
	if err != nil || ipns.ValidateWithName(r, name) != nil {
		return pubsub.ValidationReject
	}
	ours, ok := p.record(name)
	if !ok || bytes.Equal(ours, data) {
		return pubsub.ValidationIgnore
	}
	if o, err := ipns.UnmarshalRecord(ours); err != nil || !newer(r, o) {
		return pubsub.ValidationIgnore
	}
	return pubsub.ValidationAccept
}

// newer reports whether IPFS programs take a record for newer than another one of the same name.
func newer(a, b *ipns.Record) bool {
	seqA, errA := a.Sequence()
	seqB, errB := b.Sequence()
	endA, errC := a.Validity()
	endB, errD := b.Validity()
	return errors.Join(errA, errB, errC, errD) == nil && cmp.Or(cmp.Compare(seqA, seqB), endA.Compare(endB)) > 0
}

// record is what is published of a volume.
func (p *Publisher) record(name ipns.Name) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.volumes[name]
	if v == nil {
		return nil, false
	}
	return v.copy.Record, true
}
