package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Node is a Kubo daemon and the cluster peer beside it.
type Node struct {
	Name    string // "peer-1" and so on, also the cluster peer's name
	Dir     string
	ID      string // the cluster peer's peer ID
	KuboID  string // the Kubo daemon's peer ID
	Kubo    *Daemon
	Service *Daemon

	ip       string
	user     string
	password string
}

// RPC is the multiaddress of Kubo's RPC.
func (n *Node) RPC() string { return "/ip4/" + n.ip + "/tcp/5001" }

// RPCURL is the same as a URL.
func (n *Node) RPCURL() string { return "http://" + n.ip + ":5001" }

// REST is the URL of the cluster peer's REST API.
func (n *Node) REST() string { return "http://" + n.ip + ":9094" }

// CTL is what ipfs-cluster-ctl --host takes.
func (n *Node) CTL() string { return "/ip4/" + n.ip + "/tcp/9094" }

// Swarm is a multiaddress of the Kubo daemon with its peer ID, as for the origins of a pin.
func (n *Node) Swarm() string { return "/ip4/" + n.ip + "/tcp/4001/p2p/" + n.KuboID }

// Kill ends both daemons at once.
func (n *Node) Kill() error { return errors.Join(n.Service.Kill(), n.Kubo.Kill()) }

// kill ends both daemons, and has no pity: nothing in a test's cluster is kept.
func (n *Node) kill() error { return n.Kill() }

// Stop asks both daemons to end.
func (n *Node) Stop() error { return errors.Join(n.Service.Stop(), n.Kubo.Stop()) }

// Freeze stops both daemons where they stand.
func (n *Node) Freeze() error { return errors.Join(n.Service.Freeze(), n.Kubo.Freeze()) }

// Thaw lets frozen daemons go on.
func (n *Node) Thaw() error { return errors.Join(n.Kubo.Thaw(), n.Service.Thaw()) }

// Start runs both daemons again, on the same addresses and with what they had. Cluster.Ready waits for them.
func (n *Node) Start() error { return errors.Join(n.Kubo.Start(), n.Service.Start()) }

// node lays out peer i, counted from 1.
func (c *Cluster) node(i int) (*Node, error) {
	name := fmt.Sprintf("peer-%d", i)
	n := &Node{
		Name: name, Dir: filepath.Join(c.o.Dir, name), ip: fmt.Sprintf("127.0.%d.%d", c.o.Subnet, i),
		user: c.o.User, password: c.o.Password,
	}
	ipfs, err := exec.LookPath("ipfs")
	if err != nil {
		return nil, fmt.Errorf("%w (hack/tools.sh builds it)", err)
	}
	service, err := exec.LookPath("ipfs-cluster-service")
	if err != nil {
		return nil, fmt.Errorf("%w (hack/tools.sh builds it)", err)
	}
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		return nil, err
	}
	env := append(os.Environ(), "IPFS_PATH="+n.repo(), "IPFS_TELEMETRY=off", "LIBP2P_FORCE_PNET=1", "GOLOG_LOG_LEVEL=error",
		"GOLOG_OUTPUT=stderr")
	n.Kubo = &Daemon{
		Name: "kubo " + name, Log: filepath.Join(n.Dir, "kubo.log"),
		path: ipfs, args: []string{"daemon"}, env: env, spawn: c.command,
	}
	n.Service = &Daemon{
		Name: "cluster " + name, Log: filepath.Join(n.Dir, "cluster.log"),
		path: service, args: []string{"--config", n.serviceDir(), "daemon"}, env: env, spawn: c.command,
	}
	return n, nil
}

func (n *Node) repo() string       { return filepath.Join(n.Dir, "kubo") }
func (n *Node) serviceDir() string { return filepath.Join(n.Dir, "cluster") }

// initKubo makes the repository of a private swarm that looks for nobody.
func (n *Node) initKubo(ctx context.Context, swarmKey string) error {
	cmd := exec.CommandContext(ctx, n.Kubo.path, "init", "--empty-repo", "--profile=test,unixfs-v1-2025")
	cmd.Env = n.Kubo.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ipfs init: %w\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(n.repo(), "swarm.key"), []byte(swarmKey), 0o600); err != nil {
		return err
	}
	return edit(filepath.Join(n.repo(), "config"), func(config map[string]any) {
		n.KuboID, _ = get(config, "Identity.PeerID").(string)
		set(config, "Addresses.Swarm", []string{"/ip4/" + n.ip + "/tcp/4001"})
		set(config, "Addresses.API", n.RPC())
		set(config, "Addresses.Gateway", "/ip4/"+n.ip+"/tcp/8080")
		set(config, "Bootstrap", []string{})
		set(config, "Discovery.MDNS.Enabled", false)
		set(config, "AutoConf.Enabled", false)
		set(config, "AutoTLS.Enabled", false)
		set(config, "Routing.Type", "dht")
		set(config, "Routing.LoopbackAddressesOnLanDHT", true)
		set(config, "Swarm.DisableNatPortMap", true)
		// The pre-shared key of a private swarm knows TCP only.
		for _, transport := range []string{"QUIC", "WebTransport", "WebRTCDirect", "Websocket", "Relay"} {
			set(config, "Swarm.Transports.Network."+transport, false)
		}
		set(config, "HTTPRetrieval.Enabled", false)
		set(config, "Ipns.UsePubsub", true)
		set(config, "Pubsub.Enabled", true)
		set(config, "Version.SwarmCheckEnabled", false)
	})
}

// initService makes the peer's configuration. Its times are short: tests wait for a peer to be missed.
func (n *Node) initService(ctx context.Context, o Options, secret string) error {
	cmd := exec.CommandContext(ctx, n.Service.path, "--config", n.serviceDir(), "init", "--consensus", "crdt")
	cmd.Env = append(n.Service.env, "CLUSTER_SECRET="+secret)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ipfs-cluster-service init: %w\n%s", err, out)
	}
	if err := edit(filepath.Join(n.serviceDir(), "identity.json"), func(identity map[string]any) {
		n.ID, _ = get(identity, "id").(string)
	}); err != nil {
		return err
	}
	replication := func(n int) int {
		if n == 0 {
			return -1
		}
		return n
	}
	return edit(filepath.Join(n.serviceDir(), "service.json"), func(config map[string]any) {
		set(config, "cluster.peername", n.Name)
		set(config, "cluster.listen_multiaddress", []string{n.swarm()})
		set(config, "cluster.enable_relay_hop", false)
		set(config, "cluster.mdns_interval", "0s")
		set(config, "cluster.replication_factor_min", replication(o.Min))
		set(config, "cluster.replication_factor_max", replication(o.Max))
		set(config, "cluster.disable_repinning", false)
		set(config, "cluster.monitor_ping_interval", "2s")
		set(config, "cluster.peer_watch_interval", "1s")
		set(config, "cluster.state_sync_interval", "30s")
		set(config, "cluster.pin_recover_interval", "20s")
		set(config, "cluster.pubsub.heartbeat_interval", "500ms")
		set(config, "consensus.crdt.batching.max_batch_size", 100)
		set(config, "consensus.crdt.batching.max_batch_age", "100ms")
		set(config, "consensus.crdt.rebroadcast_interval", "2s")
		set(config, "monitor.pubsubmon.check_interval", "1s")
		set(config, "ipfs_connector.ipfshttp.node_multiaddress", n.RPC())
		set(config, "ipfs_connector.ipfshttp.connect_swarms_delay", "1s")
		for _, informer := range []string{"disk", "tags", "pinqueue"} {
			set(config, "informer."+informer+".metric_ttl", "2s")
		}
		set(config, "informer.tags.tags", map[string]string{"group": "default", "name": n.Name})
		set(config, "api", map[string]any{"restapi": get(config, "api.restapi")})
		set(config, "api.restapi.http_listen_multiaddress", n.CTL())
		if o.User != "" {
			set(config, "api.restapi.basic_auth_credentials", map[string]string{o.User: o.Password})
		}
		set(config, "datastore.pebble.pebble_options.cache_size_bytes", 16<<20)
		set(config, "datastore.pebble.pebble_options.mem_table_size", 4<<20)
	})
}

// swarm is the cluster peer's own address.
func (n *Node) swarm() string { return "/ip4/" + n.ip + "/tcp/9096" }

// introduce tells the node where others are, so that nobody has to be looked for: a cluster peer those that start
// before it.
func (n *Node) introduce(nodes []*Node) error {
	var peerstore strings.Builder
	peering := []map[string]any{}
	for i, other := range nodes {
		if i < slices.Index(nodes, n) {
			fmt.Fprintf(&peerstore, "%s/p2p/%s\n", other.swarm(), other.ID)
		}
		if other != n {
			peering = append(peering, map[string]any{"ID": other.KuboID, "Addrs": []string{"/ip4/" + other.ip + "/tcp/4001"}})
		}
	}
	if err := os.WriteFile(filepath.Join(n.serviceDir(), "peerstore"), []byte(peerstore.String()), 0o600); err != nil {
		return err
	}
	return edit(filepath.Join(n.repo(), "config"), func(config map[string]any) { set(config, "Peering.Peers", peering) })
}

// edit changes a JSON file.
func edit(path string, change func(map[string]any)) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	change(m)
	if text, err = json.MarshalIndent(m, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// get returns the value at a dotted path, nil if there is none.
func get(m map[string]any, path string) any {
	first, rest, more := strings.Cut(path, ".")
	if !more {
		return m[first]
	}
	inner, _ := m[first].(map[string]any)
	return get(inner, rest)
}

// set puts a value at a dotted path, making what is on the way.
func set(m map[string]any, path string, value any) {
	first, rest, more := strings.Cut(path, ".")
	if !more {
		m[first] = value
		return
	}
	inner, ok := m[first].(map[string]any)
	if !ok {
		inner = map[string]any{}
		m[first] = inner
	}
	set(inner, rest, value)
}
