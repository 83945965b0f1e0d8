package gossip

import (
	"context"
	"crypto/sha256"
	"math"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/volary/volary/head/flood"
)

// protocols are those of the hosts' own GossipSub: its messages carry no author, and so the same head from several
// hosts is one message. Kubo's and others' demand one.
var protocols = []protocol.ID{"/volary/gossip/1"}

const (
	// maxRPC bounds what is read from a peer at once.
	maxRPC = 64 << 10
	// validateQueue and subscribed are how many messages wait to be verified, and to be heard.
	validateQueue = 1024
	subscribed    = 1024
	// outbound is how many packets wait to be sent to a peer.
	outbound = 256
	// maxTopics is how many topics a peer may name at once.
	maxTopics = 16
	// idSize is the size of a message's ID.
	idSize = 20
)

func (g *Gossip) topicName() string { return "/volary/" + g.o.Namespace.ID() + "/heads/1" }

// joinTopic enters the topic, and hears what is told on it until ctx is done.
func (g *Gossip) joinTopic(ctx context.Context) error {
	name := g.topicName()
	ps, err := pubsub.NewGossipSub(ctx, g.h,
		pubsub.WithGossipSubParams(params()),
		pubsub.WithGossipSubProtocols(protocols, func(f pubsub.GossipSubFeature, _ protocol.ID) bool {
			return f == pubsub.GossipSubFeatureMesh || f == pubsub.GossipSubFeatureIdontwant
		}),
		// Who tells something first tells it to all who are connected: the mesh may not be there yet, or have holes.
		pubsub.WithFloodPublish(true),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithMaxMessageSize(maxRPC),
		pubsub.WithMaxControlMessageSize(maxRPC),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithPeerOutboundQueueSize(outbound),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter(name), maxTopics)),
		pubsub.WithAppSpecificRpcInspector(g.guard.Inspect),
		pubsub.WithPeerScore(g.scores(name)),
		pubsub.WithRawTracer(tracer{miss: g.missed.add}),
	)
	if err != nil {
		return err
	}
	// In line, a message that there is no time for is not taken for one that was seen.
	if err := ps.RegisterTopicValidator(name, g.validate, pubsub.WithValidatorInline(true)); err != nil {
		return err
	}
	if g.topic, err = ps.Join(name); err != nil {
		return err
	}
	sub, err := g.topic.Subscribe(pubsub.WithBufferSize(subscribed))
	if err != nil {
		return err
	}
	peers, err := g.topic.EventHandler()
	if err != nil {
		sub.Cancel()
		return err
	}
	g.work.Go(func() { g.listen(ctx, sub) })
	g.work.Go(func() { g.watch(ctx, peers) })
	return nil
}

// watch says who is on the topic, until ctx is done.
func (g *Gossip) watch(ctx context.Context, peers *pubsub.TopicEventHandler) {
	defer peers.Cancel()
	for {
		e, err := peers.NextPeerEvent(ctx)
		if err != nil {
			return
		}
		select {
		case g.onTopic <- e:
		case <-ctx.Done():
			return
		}
	}
}

// params have each host choose four others that pass heads on to it, and it to them: whoever is connected to the one who
// tells a head has it from there, and what was missed is made up for. Nobody is turned away who chooses this host, as it
// may be the only one that it is connected to.
func params() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.D, p.Dlo, p.Dhi, p.Dscore, p.Dout = 4, 3, math.MaxInt, 2, 1
	return p
}

func messageID(m *pb.Message) string {
	sum := sha256.Sum256(m.GetData())
	return string(sum[:idSize])
}

// listen hands over what was told on the topic.
func (g *Gossip) listen(ctx context.Context, sub *pubsub.Subscription) {
	defer sub.Cancel()
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			return
		}
		n, ok := m.ValidatorData.(news)
		if !ok {
			continue // this host's own
		}
		select {
		case g.heard <- heard{news: []news{n}}:
		case <-ctx.Done():
			return
		}
	}
}

// validate says which messages are passed on, and heard.
func (g *Gossip) validate(ctx context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	if from == g.h.ID() {
		return pubsub.ValidationAccept
	}
	n, err := decodeNews(m.GetData(), g.verify)
	if err != nil {
		g.log.Debug("a peer told what is no news", "peer", from, "error", err)
		g.guard.Charge(from, flood.Invalid)
		return pubsub.ValidationReject
	}
	known, err := g.o.Known.Knows(ctx, n.head, n.binding)
	if err != nil && ctx.Err() == nil {
		g.log.Warn("cannot say whether news are known", "peer", from, "error", err)
	}
	if err != nil {
		return pubsub.ValidationIgnore
	}
	// What an exchange brought a moment ago is known, but not yet to peers who hear of it from this host only.
	if waited := g.relay.take(messageID(m.Message)); known && !waited {
		return pubsub.ValidationIgnore
	}
	m.ValidatorData = n
	return pubsub.ValidationAccept
}

// scores says what a peer is worth: what it is above zero is bounded, one that sends what is not signed, or too much, is
// soon below what is listened to.
func (g *Gossip) scores(topic string) (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	return &pubsub.PeerScoreParams{
			AppSpecificScore:  g.guard.Score,
			AppSpecificWeight: 1,
			// Hosts of a namespace are often behind one address.
			IPColocationFactorWeight:  0,
			BehaviourPenaltyWeight:    -1,
			BehaviourPenaltyThreshold: 6,
			BehaviourPenaltyDecay:     0.9,
			TopicScoreCap:             50,
			DecayInterval:             time.Second,
			DecayToZero:               0.01,
			RetainScore:               10 * time.Minute,
			Topics: map[string]*pubsub.TopicScoreParams{topic: {
				SkipAtomicValidation:           true,
				TopicWeight:                    1,
				TimeInMeshQuantum:              time.Second,
				FirstMessageDeliveriesWeight:   1,
				FirstMessageDeliveriesDecay:    0.9,
				FirstMessageDeliveriesCap:      50,
				InvalidMessageDeliveriesWeight: -10,
				InvalidMessageDeliveriesDecay:  0.99,
			}},
		}, &pubsub.PeerScoreThresholds{
			GossipThreshold: -50, PublishThreshold: -75, GraylistThreshold: -100,
			// Only if most of the mesh is worth less than nothing: nobody is taken out of it for being too many.
			OpportunisticGraftThreshold: 0,
		}
}
