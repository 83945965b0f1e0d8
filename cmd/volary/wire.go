package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/p2p/exchange"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/local"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/kubo"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
)

// access is what a verb wants of the state.
type access int

const (
	readOnly access = iota
	readWrite
	create // to write, and to make it if it is missing
)

// lockWait is how long a verb waits for another process to let go of the state, or to begin to serve it.
const lockWait = 3 * time.Second

// openedHost is a host's state and the directory it is in.
type openedHost struct {
	*api.Host
	home *home
}

// openHost opens the state: through the daemon that holds it, or else directly.
func openHost(c *cli.Context, a access) (*openedHost, error) {
	h, err := openHome(c, a == create)
	if err != nil {
		return nil, err
	}
	host, err := whileLocked(c.Context, func() (*api.Host, error) { return dialOrOpen(c.Context, h, a) })
	if known := h.lockedByKilled(err); known != nil {
		return nil, known
	}
	if err != nil {
		return nil, err
	}
	return &openedHost{host, h}, nil
}

// openDaemon opens the state through the daemon, and waits a little for one that is only just starting.
func openDaemon(c *cli.Context) (*openedHost, error) {
	h, err := openHome(c, true)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockWait); ; {
		host, err := api.Dial(c.Context, h.path(socketName), api.DialOptions{Kinds: errorKinds})
		if err == nil {
			return &openedHost{host, h}, nil
		}
		if !errors.Is(err, api.ErrNoDaemon) && !errors.Is(err, syscall.ENAMETOOLONG) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, volume.ErrCannotMount
		}
		select {
		case <-c.Context.Done():
			return nil, c.Context.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// whileLocked calls open again, for up to lockWait, as long as another process holds the state.
func whileLocked(ctx context.Context, open func() (*api.Host, error)) (*api.Host, error) {
	for deadline := time.Now().Add(lockWait); ; {
		host, err := open()
		if !errors.Is(err, store.ErrLocked) || time.Now().After(deadline) {
			return host, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func dialOrOpen(ctx context.Context, h *home, a access) (*api.Host, error) {
	host, err := api.Dial(ctx, h.path(socketName), api.DialOptions{Kinds: errorKinds})
	if errors.Is(err, fs.ErrPermission) {
		return nil, hinted{err, "root, the daemon's own user and the members of the group that socket_group in config.toml names may use it"}
	}
	// Where no socket fits, there is no daemon.
	if !errors.Is(err, api.ErrNoDaemon) && !errors.Is(err, syscall.ENAMETOOLONG) {
		return host, err
	}
	if host, err = openStore(ctx, h, a != readOnly); err == nil {
		host.Sessions = callers{host.Sessions}
	}
	return host, err
}

const socketName = "volary.sock"

// errorKinds are the store's own errors, which keep their identity across the daemon's socket.
var errorKinds = []api.ErrorKind{
	{Name: "store_read_only", Err: store.ErrReadOnly, Status: http.StatusForbidden},
	{Name: "store_corrupt", Err: store.ErrCorrupt, Status: http.StatusInternalServerError},
	{Name: "store_busy", Err: store.ErrBusy, Status: http.StatusConflict},
	{Name: "store_closed", Err: store.ErrClosed, Status: http.StatusServiceUnavailable},
	{Name: "store_newer", Err: store.ErrNewer, Status: http.StatusConflict},
	{Name: "kubo_denied", Err: kubo.ErrDenied, Status: http.StatusBadGateway},
	{Name: "cluster_unauthorized", Err: cluster.ErrUnauthorized, Status: http.StatusBadGateway},
	{Name: "record_newer", Err: local.ErrNewer, Status: http.StatusConflict},
}

// openStore puts together a host without a daemon, or the host that a daemon serves.
func openStore(ctx context.Context, h *home, write bool) (*api.Host, error) {
	if h.rotating() && !h.moving {
		if err := h.goOn(ctx, write); err != nil {
			return nil, err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := store.Open(h.path("store"), store.Options{Logger: log, ReadOnly: !write})
	if !write && errors.Is(err, fs.ErrNotExist) {
		// State without a store is state in which nothing was stored yet.
		s, err = store.Open(h.path("store"), store.Options{Logger: log})
	}
	if err != nil {
		return nil, err
	}
	pins := local.New(s, s.BeginSweep)
	if write {
		if err := h.bringUp(ctx, pins); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	h.store = s
	if h.far, err = newFar(h.config, log); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	host := &api.Host{
		Blocks: exchange.Through(s, h.far), Sessions: sessions{s, h.far}, Pins: pins,
		Origins: api.OriginsFor(pins, uint32(os.Geteuid())), Owners: pins,
		Closer: s,
	}
	volumes := &lazyVolumes{home: h, host: host, log: log}
	host.Volumes = volumes
	host.Heads = signed{h, host}
	host.Tags = tags{pins, host}
	host.Upkeep = upkeep{home: h, store: s, pins: pins, host: host}
	if host.Network = api.NoNetwork(); h.config.networked() {
		host.Network = awayNetwork{}
	}
	if h.remote, err = h.attach(host, s, pins, log); err != nil {
		return nil, errors.Join(err, host.Close())
	}
	opened := host.Closer
	host.Closer = closer(func() error { return errors.Join(volumes.close(), opened.Close()) })
	return host, nil
}

type sessions struct {
	store *store.Store
	far   *far
}

func (s sessions) Session(ctx context.Context) (api.Session, error) {
	x, err := s.store.Session(ctx)
	if err != nil {
		return nil, err
	}
	return farSession{session{x}, exchange.Through(x, s.far)}, nil
}

// callers gives sessions the stat records of this process's user, as a daemon would.
type callers struct{ api.Sessions }

func (c callers) Session(ctx context.Context) (api.Session, error) {
	s, err := c.Sessions.Session(ctx)
	if err != nil {
		return nil, err
	}
	return api.ForCaller(s, uint32(os.Geteuid())), nil
}

// session joins the store's stat records with the importer's, which are the same.
type session struct{ *store.Session }

func (s session) SaveStat(ctx context.Context, recs []importer.StatRecord) error {
	own := make([]store.StatRecord, len(recs))
	for i, r := range recs {
		own[i] = store.StatRecord(r)
	}
	return s.Session.SaveStat(ctx, own)
}

// tags are those of a host whose volumes they are not to be taken for.
type tags struct {
	tagSet
	host *api.Host
}

// tagSet is the tags of a store, or of a host whose blocks are in a Kubo daemon.
type tagSet interface {
	Tag(ctx context.Context, name string, root cid.Cid) error
	Untag(ctx context.Context, name string) error
	Tagged(ctx context.Context, name string) (cid.Cid, error)
	Tags(ctx context.Context) iter.Seq2[local.Tag, error]
}

func (t tags) Tag(ctx context.Context, name string, root cid.Cid) error {
	if err := noVolume(ctx, t.host.Volumes, name); err != nil {
		return err
	}
	return t.tagSet.Tag(ctx, name, root)
}

func (t tags) Tags(ctx context.Context) (map[string]cid.Cid, error) {
	m := map[string]cid.Cid{}
	for tag, err := range t.tagSet.Tags(ctx) {
		if err != nil {
			return nil, err
		}
		m[tag.Name] = tag.Root
	}
	return m, nil
}

func (t tags) Untag(ctx context.Context, name string) error {
	if _, err := t.Tagged(ctx, name); err != nil {
		if errors.Is(err, local.ErrNoTag) {
			return worded{fmt.Sprintf("there is no tag %q", name), fs.ErrNotExist}
		}
		return err
	}
	return t.tagSet.Untag(ctx, name)
}

// upkeep looks after a store and its pins.
type upkeep struct {
	home  *home
	store *store.Store
	pins  *local.Set
	host  *api.Host
}

func (u upkeep) Collect(ctx context.Context, dryRun bool) (api.Collected, error) {
	res, err := u.collect(ctx, dryRun)
	if err != nil {
		return res, err
	}
	counts, err := u.volumes(ctx)
	res.RemovedVolumes = counts.Removed
	return res, err
}

// volumes counts the volumes.
func (u upkeep) volumes(ctx context.Context) (volume.Counts, error) {
	vs, ok := u.host.Volumes.(interface {
		Count(context.Context) (volume.Counts, error)
	})
	if !ok {
		return volume.Counts{}, nil
	}
	return vs.Count(ctx)
}

func (u upkeep) collect(ctx context.Context, dryRun bool) (api.Collected, error) {
	if k := u.home.remote.kept; k != nil {
		// What is not kept is the daemon's to collect, whose blocks are not Volary's alone.
		r, err := k.Reconcile(ctx, dryRun)
		res := api.Collected{Collector: u.home.remote.kubo.Endpoint(), Released: uint64(r.Released), Unknown: uint64(r.Unknown)}
		if err == nil {
			err = u.compare(ctx, dryRun, &res)
		}
		return res, err
	}
	r, err := u.pins.Collect(ctx, local.CollectOptions{DryRun: dryRun, Elsewhere: u.home.config.fetches()})
	return api.Collected{
		RemovedBlocks: uint64(r.RemovedBlocks), RemovedBytes: uint64(r.RemovedBytes), FreedBytes: uint64(r.FreedBytes),
		KeptBlocks: uint64(r.KeptBlocks), KeptBytes: uint64(r.KeptBytes), Missing: r.Missing, Damaged: r.Damaged, Elsewhere: r.Elsewhere, Withheld: r.Withheld,
	}, err
}

// compare has the cluster keep what this host keeps. While it is away, that is told and is no error.
func (u upkeep) compare(ctx context.Context, dryRun bool, res *api.Collected) error {
	if l, ok := u.host.Volumes.(*lazyVolumes); ok && !l.none() {
		if _, err := l.open(); err != nil {
			return err
		}
	}
	c, err := u.home.remote.compare(ctx, dryRun)
	res.Told, res.Untold = uint64(c.Told), uint64(c.Untold)
	if ctx.Err() == nil && (errors.Is(err, pinset.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) {
		res.NotCompared, err = err.Error(), nil
	}
	return err
}

func (u upkeep) Drop(ctx context.Context, c cid.Cid) error { return u.store.Drop(ctx, c) }

func (u upkeep) Status(ctx context.Context) (api.Status, error) {
	st := api.Status{Home: u.home.dir, Version: version()}
	u.home.remote.status(ctx, u.host.Volumes, &st)
	var err error
	if st.PeerID, err = u.home.peerID(); err != nil {
		return st, err
	}
	if st.Network, err = networkState(ctx, u.host.Network); err != nil {
		return st, err
	}
	s, err := u.store.Stats(ctx)
	if err != nil {
		return st, err
	}
	st.Blocks, st.Bytes, st.Disk, st.Free = uint64(s.Blocks), uint64(s.Bytes), uint64(s.Disk), uint64(s.Free)
	if st.Volumes, err = u.volumes(ctx); err != nil {
		return st, err
	}
	roots := map[cid.Cid]bool{}
	for p, err := range u.pins.All(ctx) {
		if err != nil {
			return st, err
		}
		roots[p.Root] = true
	}
	st.Pins = uint64(len(roots))
	for _, err := range u.pins.Tags(ctx) {
		if err != nil {
			return st, err
		}
		st.Tags++
	}
	return st, nil
}
