package gossip

import (
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// tracer sees which messages GossipSub drops for lack of room, and from when on it passes messages on to a peer: those that
// came since the peer is on the topic are not. All of them are made up for soon.
type tracer struct {
	untraced
	miss func(peer.ID)
}

// RejectMessage implements [pubsub.RawTracer].
func (t tracer) RejectMessage(_ *pubsub.Message, reason string) {
	if reason == pubsub.RejectValidationQueueFull || reason == pubsub.RejectValidationThrottled {
		t.miss("")
	}
}

// UndeliverableMessage implements [pubsub.RawTracer].
func (t tracer) UndeliverableMessage(*pubsub.Message) { t.miss("") }

// DropRPC implements [pubsub.RawTracer].
func (t tracer) DropRPC(rpc *pubsub.RPC, p peer.ID) {
	if len(rpc.GetPublish()) > 0 {
		t.miss(p)
	}
}

// Graft implements [pubsub.RawTracer].
func (t tracer) Graft(p peer.ID, _ string) { t.miss(p) }

// untraced is what a pubsub.RawTracer must have and does nothing with.
type untraced struct{}

func (untraced) OnNewOutboundStream(peer.ID, protocol.ID) {}
func (untraced) OnClosedOutboundStream(peer.ID)           {}
func (untraced) Join(string)                              {}
func (untraced) Leave(string)                             {}
func (untraced) Prune(peer.ID, string)                    {}
func (untraced) ValidateMessage(*pubsub.Message)          {}
func (untraced) DeliverMessage(*pubsub.Message)           {}
func (untraced) DuplicateMessage(*pubsub.Message)         {}
func (untraced) ThrottlePeer(peer.ID)                     {}
func (untraced) RecvRPC(*pubsub.RPC)                      {}
func (untraced) SendRPC(*pubsub.RPC, peer.ID)             {}

var _ pubsub.RawTracer = tracer{}
