package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/snapshot/kubo"
)

const (
	probeSize   = 4 << 20 // bytes to Kubo and back
	slowAnswer  = 200 * time.Millisecond
	slowBytes   = 5 << 20          // a second
	mostSkew    = 5 * time.Second  // of clocks
	pinTime     = 15 * time.Second // until a pin of one small block is everywhere
	slowPin     = 5 * time.Second
	doctorsPins = "doctor" // namespace and owner of the test pins: nobody's volumes are there
)

// remoteChecks are those of the servers that are configured.
func (h *home) remoteChecks() []check {
	if h.config.Kubo == "" {
		return nil
	}
	return []check{h.checkServers}
}

func (h *home) checkServers(ctx context.Context) []finding {
	const remedy = "see kubo and kubo_auth_file in config.toml"
	o, err := h.kuboOptions(doctorsPins)
	if err != nil {
		return []finding{fault("kubo", err, remedy)}
	}
	o.Timeout = checkTime
	k, err := kubo.New(o)
	if err != nil {
		return []finding{fault("kubo", err, remedy)}
	}
	defer k.Close()
	fs, up := checkKubo(ctx, k)
	if !up {
		k = nil
	}
	var endpoints []check
	for _, e := range h.config.Cluster {
		endpoints = append(endpoints, func(ctx context.Context) []finding { return h.checkEndpoint(ctx, e, k) })
	}
	return append(fs, together(ctx, endpoints)...)
}

// checkKubo says whether the daemon can be used, and how well.
func checkKubo(ctx context.Context, k *kubo.Blocks) (fs []finding, up bool) {
	ctx, done := context.WithTimeoutCause(ctx, 2*checkTime, fmt.Errorf("no answer within %s", 2*checkTime))
	defer done()
	asked := time.Now()
	date, err := k.Date(ctx)
	told := time.Now()
	if err != nil {
		return []finding{fault("kubo", err, kuboRemedy(err))}, false
	}
	took := told.Sub(asked)
	info, err := k.Info(ctx)
	if err != nil {
		return []finding{fault("kubo", err, kuboRemedy(err))}, false
	}
	f := found("kubo", "version %s at %s, answers in %s%s", info.Version, k.Endpoint(), round(took), datastoreText(ctx, k))
	if took > slowAnswer {
		f = f.as(slow, "find out what keeps it or the network to it busy")
	}
	fs = append(fs, f, clockFinding(date, asked, told), checkSpeed(ctx, k))
	peers, err := k.SwarmPeers(ctx)
	if err != nil {
		return append(fs, fault("swarm", err, "see whether the Kubo daemon is online")), true
	}
	return append(fs, found("swarm", "the Kubo daemon is connected to %d peers", peers)), true
}

func kuboRemedy(err error) string {
	if errors.Is(err, kubo.ErrDenied) {
		return "see kubo_auth_file in config.toml, and API.Authorizations of the daemon"
	}
	return "start the Kubo daemon there, or see kubo in config.toml"
}

// datastoreText says what a power cut may take away.
func datastoreText(ctx context.Context, k *kubo.Blocks) string {
	sync, err := k.Syncs(ctx)
	switch {
	case err != nil:
		return ", does not tell its settings"
	case sync:
		return ", its datastore syncs"
	case onThisMachine(k.Endpoint()):
		return ", its datastore does not sync by itself"
	}
	return ", its datastore does not sync: a power cut there may take the last blocks away"
}

// clockFinding compares this machine's clock with a server's, which told its time, in whole seconds, at some time between
// two of this machine's.
func clockFinding(there, asked, told time.Time) finding {
	if there.IsZero() {
		return found("clock", "not compared: the Kubo daemon does not tell its time")
	}
	skew := max(asked.Sub(there.Add(time.Second)), there.Sub(told))
	if skew > mostSkew {
		f := found("clock", "%s off that of the Kubo daemon", skew.Round(time.Second))
		return f.as(broken, "set both machines' clocks by NTP: heads and pins are told apart by their times")
	}
	return found("clock", "agrees with that of the Kubo daemon")
}

// checkSpeed moves a little to the daemon and back.
func checkSpeed(ctx context.Context, k *kubo.Blocks) finding {
	const name = "kubo throughput"
	s, err := k.Measure(ctx, probeSize)
	if err != nil {
		return fault(name, err, "see the daemon's log, and whether its disk is full")
	}
	in, out := rate(s.Bytes, s.In), rate(s.Bytes, s.Out)
	f := found(name, "%s/s in, %s/s out", bytesText(in), bytesText(out))
	if min(in, out) < slowBytes {
		return f.as(slow, "find out what keeps its disk or the network to it busy")
	}
	return f
}

func rate(n int, took time.Duration) uint64 {
	return uint64(float64(n) / max(took.Seconds(), 1e-6))
}

// checkEndpoint says whether a peer of the cluster can be used, and gets pins to all others. k is nil if there is no
// daemon to get a block from.
func (h *home) checkEndpoint(ctx context.Context, endpoint string, k *kubo.Blocks) []finding {
	const configured = "see cluster and cluster_auth_file in config.toml"
	_, user, password, err := credentials(h.config.ClusterAuthFile)
	if err != nil {
		return []finding{fault("cluster", err, configured)}
	}
	s, err := cluster.New(cluster.Options{
		Endpoints: []string{endpoint}, User: user, Password: password, Namespace: doctorsPins, Timeout: checkTime,
	})
	if err != nil {
		return []finding{fault("cluster", err, configured)}
	}
	name := "cluster " + s.Endpoints()[0]
	begin := time.Now()
	v, err := s.Version(ctx)
	took := time.Since(begin)
	if err != nil {
		remedy := "start the cluster peer there, or see cluster in config.toml"
		if errors.Is(err, cluster.ErrUnauthorized) {
			remedy = "see cluster_auth_file in config.toml"
		}
		return []finding{fault(name, err, remedy)}
	}
	peers, err := s.Peers(ctx)
	if err != nil {
		return []finding{fault(name, err, "see the peer's log")}
	}
	var names []string
	for _, p := range peers {
		names = append(names, p.Name)
	}
	f := found(name, "version %s, answers in %s, %d peers alive: %s", v, round(took), len(peers), strings.Join(names, ", "))
	if took > slowAnswer {
		f = f.as(slow, "find out what keeps it or the network to it busy")
	}
	if k == nil {
		return []finding{f}
	}
	return []finding{f, checkPin(ctx, name+" pins", s, peers, k)}
}

// checkPin has every peer of a cluster hold a small block for a moment. peers are those that were alive before.
func checkPin(ctx context.Context, name string, s *cluster.Set, peers []cluster.Peer, k *kubo.Blocks) (f finding) {
	blk, err := kubo.RandomBlock(64)
	if err == nil {
		err = k.Put(ctx, blk)
	}
	if err != nil {
		return fault(name, err, "see the Kubo daemon's log")
	}
	defer func() {
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), 2*checkTime)
		defer done()
		if err := s.Remove(ctx, blk.Cid(), doctorsPins); err != nil && f.Health != broken {
			f = fault(name, err, "remove it: ipfs-cluster-ctl pin rm "+blk.Cid().String())
		}
	}()
	begin := time.Now()
	pin := pinset.Pin{Root: blk.Cid(), Owner: doctorsPins, Name: doctorsPins, Created: begin}
	// Nobody needs it for longer, should this process not live to remove it.
	place := cluster.Placement{Min: cluster.Everywhere, Max: cluster.Everywhere, Expire: begin.Add(time.Hour)}
	if err := s.Place(ctx, pin, place); err != nil {
		return fault(name, err, "see the peer's log")
	}
	ctx, done := context.WithTimeoutCause(ctx, pinTime, fmt.Errorf("not everywhere within %s", pinTime))
	defer done()
	st, err := s.Wait(ctx, blk.Cid(), cluster.WaitOptions{Goal: cluster.Max})
	took := time.Since(begin)
	lag := lagging(peers, st)
	switch {
	case err != nil:
		return fault(name, err, lagRemedy)
	case len(lag) > 0:
		return fault(name, fmt.Errorf("after %s no pin at %s, which did not answer in time", round(took), strings.Join(lag, ", ")), lagRemedy)
	case took > slowPin:
		return found(name, "all %d peers hold a pin after %s", len(peers), round(took)).as(slow, "see what the peers are busy with: ipfs-cluster-ctl status")
	}
	return found(name, "all %d peers hold a pin after %s", len(peers), round(took))
}

const lagRemedy = "restart the cluster peers that lag, and see whether their Kubo daemons can reach this one: a peer that began before its Kubo daemon may never fetch"

// lagging names the peers that do not hold a root. A cluster no longer counts those that it takes for dead.
func lagging(peers []cluster.Peer, st pinset.Status) (names []string) {
	for _, p := range peers {
		if !slices.ContainsFunc(st.Replicas, func(r pinset.Replica) bool { return r.Peer == p.ID && r.Pinned }) {
			names = append(names, p.Name)
		}
	}
	return names
}
