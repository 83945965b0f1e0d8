package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/ipfs/go-cid"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/kept"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/pinset/outbox"
	"github.com/volary/volary/snapshot/cached"
	"github.com/volary/volary/snapshot/kubo"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
	"github.com/volary/volary/volume/publish"
)

// pinInterval is the least time between two pins of one volume in the cluster, whose own record of pins only grows.
const pinInterval = time.Second

const (
	outboxFile = "outbox.db"
	cacheDir   = "cache"
)

// remote is what a host has beside its own disk: a Kubo daemon with its blocks, a cluster that replicates its pins.
type remote struct {
	id      string         // the host's peer ID; empty as long as kubo is nil
	kubo    *kubo.Blocks   // nil: blocks are on the disk
	cache   *cached.Blocks // nil: none
	kept    *kept.Host     // nil as kubo
	cluster *cluster.Set   // nil: nothing is replicated
	outbox  *outbox.Queue  // nil as cluster
	heads   *publish.Heads // nil until volumes are opened, or as cluster

	refreshed *refresher      // nil as heads
	refused   atomic.Int64    // pins in the cluster that claimed to be heads, when they were last read
	ends      <-chan struct{} // closed when a daemon is to end: then it waits for no replicas; nil in other processes
}

// attach joins a host whose records are in s with what its settings name. The host is to be closed by Close.
func (h *home) attach(host *api.Host, s *store.Store, pins *local.Set, log *slog.Logger) (*remote, error) {
	r := &remote{}
	host.Closer = r.closing(host.Closer)
	host.Replicas = api.NoReplicas()
	if h.config.Kubo == "" {
		return r, nil
	}
	if err := h.attachKubo(r, s, pins, log); err != nil {
		return r, err
	}
	host.Blocks, host.Pins = r.kept, r.kept
	host.Sessions = keptSessions{r.kept}
	host.Tags = tags{r.kept, host}
	if len(h.config.Cluster) == 0 {
		return r, nil
	}
	if err := h.attachCluster(r, log); err != nil {
		return r, err
	}
	host.Pins = replicated{r.kept, r}
	host.Replicas = replicas{r}
	return r, nil
}

func (h *home) attachKubo(r *remote, s *store.Store, pins *local.Set, log *slog.Logger) error {
	id, err := h.peerID()
	if err != nil {
		return err
	}
	o, err := h.kuboOptions(id)
	if err != nil {
		return err
	}
	r.id = id
	near := onThisMachine(h.config.Kubo)
	o.Near, o.Logger = near, log
	if r.kubo, err = kubo.New(o); err != nil {
		return usageError{err.Error()}
	}
	size, err := humanize.ParseBytes(h.config.CacheSize)
	if err != nil {
		return err
	}
	k := kept.Options{Records: s, Pins: pins, Kubo: r.kubo, Host: id}
	if !near && size > 0 {
		if r.cache, err = cached.Open(r.kubo, h.path(cacheDir), cached.Options{Size: int64(size)}); err != nil {
			return err
		}
		k.Far = r.cache
	}
	r.kept = kept.New(k)
	return nil
}

// kuboOptions say which daemon has the blocks of a host.
func (h *home) kuboOptions(id string) (kubo.Options, error) {
	token, user, password, err := credentials(h.config.KuboAuthFile)
	if err != nil {
		return kubo.Options{}, err
	}
	wait, err := time.ParseDuration(h.config.FetchTimeout)
	return kubo.Options{
		Endpoint: h.config.Kubo, Token: token, User: user, Password: password, Host: id, FetchTimeout: wait,
	}, err
}

// onThisMachine reports whether an address is of a loopback interface or a socket.
func onThisMachine(endpoint string) bool {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		ip := net.ParseIP(u.Hostname())
		return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	}
	if strings.HasPrefix(endpoint, "unix:") || strings.HasPrefix(endpoint, "/unix/") {
		return true
	}
	m, err := ma.NewMultiaddr(endpoint)
	if err != nil {
		return false
	}
	for _, p := range []int{ma.P_IP4, ma.P_IP6} {
		if v, err := m.ValueForProtocol(p); err == nil {
			return net.ParseIP(v).IsLoopback()
		}
	}
	return false
}

func (h *home) attachCluster(r *remote, log *slog.Logger) error {
	ns, _, err := h.namespace()
	if err != nil {
		return err
	}
	_, user, password, err := credentials(h.config.ClusterAuthFile)
	if err != nil {
		return err
	}
	least, most, err := h.config.replicas()
	if err != nil {
		return err
	}
	formerly, err := h.formerly()
	if err != nil {
		return err
	}
	place := cluster.Placement{Min: least, Max: most}
	r.cluster, err = cluster.New(cluster.Options{
		Endpoints: h.config.Cluster, User: user, Password: password, Namespace: ns.ID(), Formerly: formerly, Default: place,
	})
	if err != nil {
		return usageError{err.Error()}
	}
	r.outbox, err = outbox.Open(h.path(outboxFile), outbox.Options{
		Set: r.cluster, Logger: log, Interval: pinInterval,
		Pin: func(ctx context.Context, e outbox.Entry) error {
			return r.place(ctx, e.Pin, e.Args, place)
		},
	})
	return err
}

// closing closes the remote side before what is on the disk. What the cluster was not told is given a moment.
func (r *remote) closing(disk io.Closer) io.Closer {
	return closer(func() error {
		var errs []error
		if r.outbox != nil {
			ctx, done := context.WithTimeout(context.Background(), drainTime)
			r.outbox.Drain(ctx) // what is left waits for the next process
			done()
			errs = append(errs, r.outbox.Close())
		}
		if r.cache != nil {
			errs = append(errs, r.cache.Close())
		}
		if r.kubo != nil {
			errs = append(errs, r.kubo.Close())
		}
		return errors.Join(append(errs, disk.Close())...)
	})
}

// drainTime is how long a process that ends gives the cluster to take what waits.
const drainTime = 2 * time.Second

// closer is closed once.
func closer(f func() error) io.Closer {
	return closeOnce(sync.OnceValue(f))
}

type closeOnce func() error

func (c closeOnce) Close() error { return c() }

type keptSessions struct{ host *kept.Host }

func (s keptSessions) Session(ctx context.Context) (api.Session, error) { return s.host.Session(ctx) }

// replicated is the pins of a host of which a cluster is told. Those of volumes' heads are told with what signs them,
// by whoever signs; of those of people the cluster is told here. What it is to be told is in the queue before it is recorded
// here: what a crash leaves in between, compare finds.
type replicated struct {
	*kept.Host
	remote *remote
}

var _ pinset.Set = replicated{}

func (r replicated) Add(ctx context.Context, p pinset.Pin) error {
	if p.Owner == "" {
		if err := r.remote.checkPlacement(ctx, p); err != nil {
			return err
		}
	}
	if p.Owner != "" {
		return r.Host.Add(ctx, p)
	}
	return r.AddAfter(ctx, p, func() error { return r.remote.outbox.Put(ctx, r.remote.peoplesWish(p)) })
}

func (r replicated) Remove(ctx context.Context, root cid.Cid, owner string) error {
	if strings.HasPrefix(owner, volume.FollowOwner) {
		return r.Host.Remove(ctx, root, owner) // of which the cluster was not told: it has the root for others
	}
	return r.RemoveAfter(ctx, root, owner, func() error {
		return r.remote.outbox.Put(ctx, outbox.Entry{Op: outbox.Unpin, Pin: pinset.Pin{Root: root, Owner: owner}, Group: groupOf(owner)})
	})
}

// All implements [pinset.Set]: what this host keeps.
func (r replicated) All(ctx context.Context) iter.Seq2[pinset.Pin, error] { return r.Host.All(ctx) }

// peoplesPin is what the cluster is told of a pin that is no volume's: not where its files were on this host.
func peoplesPin(p pinset.Pin) pinset.Pin {
	return pinset.Pin{Root: p.Root, Name: "snapshot/" + cmp.Or(p.Name, p.Root.String()), Created: p.Created}
}

// groupOf is what pins of a volume replace each other in.
func groupOf(owner string) string {
	group, _ := strings.CutPrefix(owner, "volume/")
	return group
}

// sendHead hands a head's pin to the outbox. It takes no place there of one that it does not come after.
func (r *remote) sendHead(ctx context.Context, id string, p pinset.Pin) error {
	if e, waits := r.outbox.Replaceable(id); waits && e.Pin.Root != p.Root && !r.heads.After(ctx, p.Root, e.Pin.Root) {
		e.Keep = true
		if err := r.outbox.Put(ctx, e); err != nil {
			return err
		}
	}
	e := outbox.Entry{Op: outbox.Pin, Pin: p, Group: id}
	if n := r.heads.Replicas(ctx, p.Root); n != "" {
		e.Args = map[string]string{metaReplicas: n}
	}
	return r.outbox.Put(ctx, e)
}

// errNoKubo says that something needs a Kubo daemon.
var errNoKubo = fmt.Errorf("no Kubo daemon is configured: %w\ngive kubo in config.toml, --kubo or VOLARY_KUBO", fs.ErrNotExist)
