package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head/lease"
	"github.com/volary/volary/snapshot/hydrate"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
	"github.com/volary/volary/volume/docker"
	"github.com/volary/volary/volume/freezer"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/overlay"
	"github.com/volary/volary/zombie"
)

// Names in a home.
const (
	volumesDir = "volumes"
	pausedFile = "paused.json" // what is frozen while files are read
)

// openVolumes puts together the volumes of a host; without a mounter in the options they cannot be mounted.
func openVolumes(h *home, host *api.Host, o volume.Options) (*volume.Manager, error) {
	author, err := h.peerID()
	if err != nil {
		return nil, err
	}
	begin := func(ctx context.Context) (volume.Session, error) {
		s, err := host.Sessions.Session(ctx)
		if err != nil {
			return nil, err
		}
		return api.ForCaller(s, uint32(os.Geteuid())), nil
	}
	o.IsTag = func(ctx context.Context, name string) (bool, error) {
		tags, err := host.Tags.Tags(ctx)
		_, is := tags[name]
		return is, err
	}
	o.Begin, o.Blocks, o.Pins, o.Own, o.Tags = begin, host.Blocks, host.Pins, host.Origins, host.Tags
	o.Author, o.Chunker = author, h.config.Chunker
	if h.remote.cluster != nil {
		o.Replicate = h.remote.replicate
		o.CanReplicate = func(ctx context.Context, n volume.Replicas) error {
			_, err := h.remote.peersFor(ctx, n.Min)
			return err
		}
	}
	if h.remote.kept == nil { // a Kubo daemon gets what it pins
		o.Hydrate = func(ctx context.Context, s volume.Session, root cid.Cid) error {
			_, err := hydrate.Fetch(ctx, s, root, hydrate.Options{})
			return err
		}
	}
	if o.Heads, err = h.heads(o); err != nil {
		return nil, err
	}
	o.Refresh = h.remote.refresh
	return volume.Open(h.path(volumesDir), o)
}

// servedVolumes are the volumes of a daemon, mounts included.
type servedVolumes struct {
	*volume.Manager
	lower *holder.Lower // nil: nothing can be mounted
	stop  context.CancelFunc
	work  sync.WaitGroup
	once  sync.Once
	err   error
}

// serveVolumes gives a daemon's host its volumes, and takes care of them until close. It does not wait until what was
// mounted before is mounted again; a volume for which that fails is told in the log, and hinders no other.
// What was killed and waits for answers gets them first.
func serveVolumes(ctx context.Context, h *home, host *api.Host, leases *lease.Leases, killed []zombie.Process, log *slog.Logger) (*servedVolumes, error) {
	var mounter volume.Mounter
	var lower *holder.Lower
	if os.Geteuid() == 0 {
		client, err := holderOf(h)
		if err != nil {
			return nil, err
		}
		timeout, err := time.ParseDuration(h.config.IOTimeout)
		if err != nil {
			return nil, err
		}
		lower = holder.NewLower(holder.LowerOptions{Holder: client, IOTimeout: timeout, Logger: log})
		if err := answerKilled(ctx, killed, lower, host, log); err != nil {
			return nil, err
		}
		mounter = overlay.New(lower)
	}
	reserve, err := humanize.ParseBytes(h.config.Reserve)
	if err != nil {
		return nil, err
	}
	h.remote.ends = ctx.Done()
	o := volume.Options{
		Reserve: reserve, Mounter: mounter, Pauser: openFreezer(h, log), Logger: log, Started: func(i *volume.Info) { rebind(i, log) },
	}
	if h.config.Docker != "" {
		o.Forgotten, o.Visible = volume.DefaultForgotten, docker.Visible
	}
	if leases != nil {
		o.Leases = volumeLeases{leases}
	}
	m, err := openVolumes(h, host, o)
	if err != nil {
		return nil, err
	}
	host.Volumes = m
	ctx, stop := context.WithCancel(ctx)
	v := &servedVolumes{Manager: m, lower: lower, stop: stop}
	v.work.Go(func() {
		if err := m.Start(ctx); err != nil && ctx.Err() == nil {
			log.Error("volumes", "error", err)
		}
	})
	v.work.Go(func() { m.Run(ctx) })
	v.work.Go(func() { h.remote.follow(ctx, m.Hear, log) })
	v.work.Go(func() { h.remote.compareAgain(ctx, log) })
	v.work.Go(func() {
		if err := h.told.Ahead(ctx); err != nil && ctx.Err() == nil {
			log.Error("heads that are heard are not got ahead", "error", err)
		}
	})
	if lower != nil {
		v.work.Go(func() { rehold(ctx, lower, log) })
	}
	return v, nil
}

// reholdEvery is how often it is looked whether the holder has all mounts.
const reholdEvery = 5 * time.Second

// rehold gives a new holder what the one before it had, until ctx is done.
func rehold(ctx context.Context, l *holder.Lower, log *slog.Logger) {
	tick := time.NewTicker(reholdEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := l.Rehold(ctx); err != nil && ctx.Err() == nil {
				log.Error("mounts would not outlive this daemon", "error", err)
			}
		}
	}
}

func (v *servedVolumes) close() error {
	v.once.Do(func() {
		v.stop()
		v.work.Wait()
		v.err = v.Manager.Close()
		if v.lower != nil {
			v.err = errors.Join(v.err, v.lower.Close())
		}
	})
	return v.err
}

// openFreezer thaws what a daemon before this one left frozen. If that fails, the log says so, and nobody is paused.
func openFreezer(h *home, log *slog.Logger) volume.Pauser {
	if os.Geteuid() != 0 {
		return nil
	}
	f, err := freezer.Open(h.path(pausedFile), freezer.Options{Logger: log})
	if err != nil {
		log.Error("pausing", "error", err)
		return nil
	}
	return f
}

// lazyVolumes are the volumes of a host without a daemon, opened when they are first needed. They are closed with the
// host.
type lazyVolumes struct {
	home *home
	host *api.Host
	log  *slog.Logger

	once sync.Once
	m    *volume.Manager
	err  error
}

var _ api.Volumes = (*lazyVolumes)(nil)

func (l *lazyVolumes) open() (*volume.Manager, error) {
	l.once.Do(func() { l.m, l.err = openVolumes(l.home, l.host, volume.Options{Logger: l.log}) })
	return l.m, l.err
}

// close lets others have the databases, if they were opened.
func (l *lazyVolumes) close() error {
	l.once.Do(func() { l.err = store.ErrClosed })
	if l.m == nil {
		return nil
	}
	return errors.Join(l.m.Close(), l.home.known.Close())
}

// none reports whether no volume was ever made; then a question need not make the database.
func (l *lazyVolumes) none() bool {
	return !exists(l.home.path(volumesDir)) && l.home.remote.cluster == nil
}

func (l *lazyVolumes) List(ctx context.Context, o volume.ListOptions) ([]volume.Info, error) {
	if l.none() {
		return nil, nil
	}
	m, err := l.open()
	if err != nil {
		return nil, err
	}
	return m.List(ctx, o)
}

func (l *lazyVolumes) Count(ctx context.Context) (volume.Counts, error) {
	if l.none() {
		return volume.Counts{}, nil
	}
	m, err := l.open()
	if err != nil {
		return volume.Counts{}, err
	}
	return m.Count(ctx)
}

func (l *lazyVolumes) Inspect(ctx context.Context, name string) (*volume.Info, error) {
	if l.none() {
		return nil, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
	}
	m, err := l.open()
	if err != nil {
		return nil, err
	}
	return m.Inspect(ctx, name)
}

// Watch is for a host that somebody serves: nobody else changes what this process has opened.
func (l *lazyVolumes) Watch(context.Context, volume.WatchOptions) iter.Seq2[volume.News, error] {
	return func(yield func(volume.News, error) bool) {
		yield(volume.News{}, hinted{fmt.Errorf("watch: %w", api.ErrNoDaemon), "start one: `volary daemon`"})
	}
}

func (l *lazyVolumes) Resolve(ctx context.Context, ref string) (cid.Cid, error) {
	if c, err := cid.Decode(ref); err == nil {
		return c, nil
	}
	if l.none() {
		return cid.Undef, fmt.Errorf("%q: %w", ref, volume.ErrNotFound)
	}
	m, err := l.open()
	if err != nil {
		return cid.Undef, err
	}
	return m.Resolve(ctx, ref)
}

func (l *lazyVolumes) Do(ctx context.Context, op volume.Operation) (volume.Result, error) {
	_, creates := op.(*volume.Create)
	if l.none() && !creates {
		return volume.Result{}, fmt.Errorf("there are no volumes yet: %w", volume.ErrNotFound)
	}
	m, err := l.open()
	if err != nil {
		return volume.Result{}, err
	}
	return m.Do(ctx, op)
}
