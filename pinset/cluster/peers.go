package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/pinset"
)

// noAnswer is the state of a peer that was not, or not yet, heard of; the cluster has no word for it.
const noAnswer = "no answer"

// Peer is a cluster peer that is alive.
type Peer struct {
	ID     string
	Name   string
	KuboID string // the peer ID of the Kubo daemon beside it
}

// Peers lists the peers from which an endpoint heard lately, by name.
func (s *Set) Peers(ctx context.Context) ([]Peer, error) {
	const op = "list peers"
	var peers []Peer
	err := s.try(ctx, op, func(e endpoint) error {
		alive, err := s.metrics(ctx, e, op, "ping")
		peers = nil
		for _, m := range alive {
			var ping struct {
				Name   string `json:"peer_name"`
				KuboID string `json:"ipfs_id"`
			}
			// A peer of another version may say something else; that it is alive counts.
			_ = json.Unmarshal([]byte(m.Value), &ping)
			peers = append(peers, Peer{m.Peer.String(), ping.Name, ping.KuboID})
		}
		return err
	})
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return peers, err
}

// Endpoints are those of the set, as errors name them.
func (s *Set) Endpoints() []string {
	names := make([]string, len(s.endpoints))
	for i, e := range s.endpoints {
		names[i] = e.name
	}
	return names
}

// Version asks which IPFS Cluster an endpoint is: the cheapest way to find out whether it answers.
func (s *Set) Version(ctx context.Context) (version string, _ error) {
	const op = "ask for the version"
	err := s.try(ctx, op, func(e endpoint) error {
		return s.call(ctx, e, op, func(ctx context.Context) error {
			v, err := e.client.Version(ctx)
			version = v.Version
			return err
		})
	})
	return version, err
}

// tagged lists the live peers that have all of tags, in the order of their IDs.
func (s *Set) tagged(ctx context.Context, e endpoint, op string, tags map[string]string) ([]peer.ID, error) {
	has := map[peer.ID]int{}
	for key, value := range tags {
		metrics, err := s.metrics(ctx, e, op, "tag:"+key)
		if err != nil {
			return nil, err
		}
		for _, m := range metrics {
			if m.Value == value {
				has[m.Peer]++
			}
		}
	}
	var ids []peer.ID
	for id, n := range has {
		if n == len(tags) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// metrics are the valid ones of a name, at most one for each peer.
func (s *Set) metrics(ctx context.Context, e endpoint, op, name string) ([]api.Metric, error) {
	var metrics []api.Metric
	err := s.call(ctx, e, op, func(ctx context.Context) error {
		var err error
		metrics, err = e.client.Metrics(ctx, name)
		return err
	})
	return slices.DeleteFunc(metrics, func(m api.Metric) bool { return !m.Valid }), err
}

// recorded is the status of a pin as long as no peer was heard.
func (s *Set) recorded(pin api.Pin) pinset.Status {
	st := pinset.Status{Pins: s.pins(pin), State: pinset.Pinning, Min: pin.ReplicationFactorMin, Max: pin.ReplicationFactorMax}
	for _, id := range pin.Allocations {
		st.Replicas = append(st.Replicas, pinset.Replica{Peer: id.String(), State: noAnswer})
	}
	return st
}

// counted is the status of a pin of which the peers were heard.
func counted(st pinset.Status, info api.GlobalPinInfo) pinset.Status {
	st.Replicas = nil
	for id, said := range info.PeerMap {
		st.Replicas = append(st.Replicas, replica(id, said))
	}
	tally(&st)
	return st
}

// replica is what a peer said.
func replica(id string, said api.PinInfoShort) pinset.Replica {
	return pinset.Replica{
		Peer: id, Name: said.PeerName, Pinned: said.Status == api.TrackerStatusPinned, State: said.Status.String(),
		Error: said.Error, Since: said.TS, Attempts: said.AttemptCount,
	}
}

// tally puts the replicas in order and says what they amount to.
func tally(st *pinset.Status) {
	slices.SortFunc(st.Replicas, func(a, b pinset.Replica) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Peer, b.Peer))
	})
	pinned := 0
	for _, r := range st.Replicas {
		if r.Pinned {
			pinned++
		}
	}
	st.State = pinset.Pinning
	if pinned > 0 && pinned >= replicas(*st, st.Min) {
		st.State = pinset.Pinned
	}
}

// selfTime is how much longer than the first one the others may take to say what they know themselves.
const selfTime = time.Second

// selves asks the peer of each endpoint for itself alone, which none of the others can hold up.
func (s *Set) selves(ctx context.Context, root cid.Cid) map[string]pinset.Replica {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	answers := make([]api.GlobalPinInfo, len(s.endpoints))
	var wg sync.WaitGroup
	var first sync.Once
	for i, e := range s.endpoints {
		wg.Go(func() {
			var err error
			// Who does not answer is told when all peers are asked.
			if answers[i], err = e.client.Status(ctx, api.NewCid(root), true); err == nil {
				first.Do(func() { time.AfterFunc(selfTime, cancel) })
			}
		})
	}
	wg.Wait()
	said := map[string]pinset.Replica{}
	for _, a := range answers {
		for id, self := range a.PeerMap {
			said[id] = replica(id, self)
		}
	}
	return said
}

// replicas is the number that a replication factor stands for.
func replicas(st pinset.Status, factor int) int {
	if factor < 0 {
		return len(st.Replicas)
	}
	return factor
}
