package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/outbox"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
)

const (
	// statusTime is how long a status waits for each of the servers, all of them at once.
	statusTime = 3 * time.Second
	// behindAtOnce is how many heads the cluster is asked of at a time.
	behindAtOnce = 8
)

func statusCommand() *cli.Command {
	return command(cli.Command{
		Name:   "status",
		Usage:  "show the state of this host at a glance",
		Action: status,
	}, 0, 0)
}

func status(c *cli.Context) error {
	host, err := openHost(c, readOnly)
	if err != nil {
		return err
	}
	defer host.Close()
	s, err := host.Upkeep.Status(c.Context)
	if err != nil {
		return err
	}
	if s.Volumes.Dirty, err = countDirty(c.Context, host.Host, s); err != nil {
		return err
	}
	return outputOf(c).object(s, func(out io.Writer) { statusText(out, s) })
}

// countDirty counts volumes with changes. While a server is away, that may not be known in time.
func countDirty(ctx context.Context, host *api.Host, s api.Status) (*uint64, error) {
	limited := ctx
	if s.Kubo != nil {
		var done context.CancelFunc
		limited, done = context.WithTimeout(ctx, statusTime)
		defer done()
	}
	infos, err := host.Volumes.List(limited, volume.ListOptions{Dirty: true})
	if err != nil {
		if ctx.Err() == nil && limited.Err() != nil {
			return nil, nil
		}
		return nil, err
	}
	dirty := new(uint64)
	for _, i := range infos {
		if i.Dirty == nil && !i.Elsewhere {
			return nil, nil // somebody works on it, or there is no daemon
		}
		if i.Dirty != nil && *i.Dirty {
			*dirty++
		}
	}
	return dirty, nil
}

func statusText(out io.Writer, s api.Status) {
	w := columns(out)
	defer w.Flush()
	held, dirty := "no daemon", "an unknown number"
	if s.Daemon {
		held = "held by a daemon"
	}
	if s.Volumes.Dirty != nil {
		dirty = fmt.Sprint(*s.Volumes.Dirty)
	}
	fmt.Fprintf(w, "home\t%s (%s)\nversion\t%s\npeer\t%s\n", s.Home, held, s.Version, s.PeerID)
	fmt.Fprintf(w, "kept\t%d snapshots, %d tags\n", s.Pins, s.Tags)
	fmt.Fprintf(w, "volumes\t%d; %d mounted, %s with changes that are not committed, %d failing\n",
		s.Volumes.Volumes, s.Volumes.Mounted, dirty, s.Volumes.Failing)
	fmt.Fprintf(w, "store\t%d blocks, %s; %s on disk, %s free\n", s.Blocks, bytesText(s.Bytes), bytesText(s.Disk), bytesText(s.Free))
	if s.Network != nil {
		networkText(w, s.Network)
	}
	if k := s.Kubo; k != nil && k.Error != "" {
		fmt.Fprintf(w, "kubo\taway: %s\n", quote(k.Error))
	} else if k != nil {
		fmt.Fprintf(w, "kubo\t%s, version %s\n", k.Endpoint, quote(k.Version))
	}
	if s.Cluster != nil {
		clusterText(w, s.Cluster)
	}
	if s.Outbox != nil {
		outboxText(w, s.Outbox)
	}
}

func networkText(w io.Writer, n *api.NetworkState) {
	if n.Error != "" {
		fmt.Fprintf(w, "network\taway: %s\n", quote(n.Error))
		return
	}
	fmt.Fprintf(w, "network\t%d peers connected, %d configured ones not; ", n.Connected, n.Missing)
	if len(n.Addrs) == 0 {
		fmt.Fprint(w, "does not listen\n")
		return
	}
	fmt.Fprintf(w, "listens on %s\n", strings.Join(n.Addrs, ", "))
}

func clusterText(w io.Writer, c *api.ClusterStatus) {
	if c.Error != "" {
		fmt.Fprintf(w, "cluster\taway: %s\n", quote(c.Error))
	} else {
		fmt.Fprintf(w, "cluster\t%d peers: %s\n", len(c.Peers), quote(strings.Join(c.Peers, ", ")))
	}
	for _, b := range c.Behind {
		least := fmt.Sprint(b.Min)
		if b.Min < 0 {
			least = "all"
		}
		if b.State == string(pinset.Pinning) {
			fmt.Fprintf(w, "behind\t%s: %d of %s peers hold it\n", quote(b.Volume), b.Pinned, least)
		} else {
			fmt.Fprintf(w, "behind\t%s: %s\n", quote(b.Volume), b.State)
		}
	}
	if c.BehindError != "" {
		fmt.Fprintf(w, "behind\tnot known of all volumes: %s\n", quote(c.BehindError))
	}
	if c.Refused > 0 {
		fmt.Fprintf(w, "refused\t%d pins in the cluster that claim to be a volume's and are not signed as such\n", c.Refused)
	}
}

func outboxText(w io.Writer, o *api.OutboxStatus) {
	if o.Untold > 0 {
		fmt.Fprintf(w, "untold\t%d volumes that are not in the outbox yet\n", o.Untold)
	}
	if o.Waiting == 0 {
		if o.Untold > 0 {
			return
		}
		fmt.Fprint(w, "outbox\tnothing waits\n")
		return
	}
	fmt.Fprintf(w, "outbox\t%d wait", o.Waiting)
	if o.Oldest != nil {
		fmt.Fprintf(w, ", the oldest put %s", humanize.Time(*o.Oldest))
	}
	if o.Attempts > 0 {
		fmt.Fprintf(w, ", tried up to %d times", o.Attempts)
	}
	if o.Error != "" {
		fmt.Fprintf(w, ": %s", quote(o.Error))
	}
	fmt.Fprintln(w)
}

// status says how the servers are. It takes little more than statusTime.
func (r *remote) status(ctx context.Context, vs api.Volumes, st *api.Status) {
	if r.kubo == nil {
		return
	}
	ctx, done := context.WithTimeoutCause(ctx, statusTime, fmt.Errorf("no answer within %s", statusTime))
	defer done()
	var wg sync.WaitGroup
	defer wg.Wait()
	st.Kubo = &api.KuboStatus{Endpoint: r.kubo.Endpoint()}
	wg.Go(func() {
		info, err := r.kubo.Info(ctx)
		st.Kubo.Version, st.Kubo.Error = info.Version, errorText(err)
	})
	if r.cluster == nil {
		return
	}
	st.Outbox = outboxStatus(r.outbox)
	st.Cluster = &api.ClusterStatus{Peers: []string{}, Behind: []api.Behind{}}
	wg.Go(func() {
		peers, err := r.cluster.Peers(ctx)
		for _, p := range peers {
			st.Cluster.Peers = append(st.Cluster.Peers, p.Name)
		}
		st.Cluster.Error = errorText(err)
	})
	wg.Go(func() {
		behind, err := r.behind(ctx, vs)
		if r.heads != nil { // the volumes are open by now
			untold, err2 := r.heads.Untold()
			st.Outbox.Untold, err = untold, errors.Join(err, err2)
		}
		st.Cluster.Refused = int(r.refused.Load())
		st.Cluster.Behind, st.Cluster.BehindError = append(st.Cluster.Behind, behind...), errorText(err)
	})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func outboxStatus(q *outbox.Queue) *api.OutboxStatus {
	s := q.Stats()
	o := &api.OutboxStatus{Waiting: s.Waiting, Pinned: s.Pinned, Unpinned: s.Unpinned, Failed: s.Failed}
	if !s.Oldest.IsZero() {
		o.Oldest = &s.Oldest
	}
	var tried time.Time
	for _, w := range q.Waiting() {
		o.Attempts = max(o.Attempts, w.Attempts)
		if w.Error != "" && !w.Tried.Before(tried) {
			o.Error, tried = w.Error, w.Tried
		}
	}
	return o
}

// behind finds this host's volumes whose head is not replicated as it is to be.
func (r *remote) behind(ctx context.Context, vs api.Volumes) ([]api.Behind, error) {
	// Of a volume whose head's block cannot be got in time less is known, but the cluster can still be asked.
	half, done := context.WithTimeout(ctx, statusTime/2)
	defer done()
	infos, err := vs.List(half, volume.ListOptions{})
	if err != nil {
		return nil, err
	}
	waiting := map[string]bool{}
	for _, w := range r.outbox.Waiting() {
		if w.Op == outbox.Pin {
			waiting[w.Pin.Root.String()] = true
		}
	}
	found, errs := make([]*api.Behind, len(infos)), make([]error, len(infos))
	slots := make(chan struct{}, behindAtOnce)
	var wg sync.WaitGroup
	for i, info := range infos {
		if info.Elsewhere || info.Removed != nil || !info.Head.Defined() {
			continue
		}
		head := info.Head.String()
		if waiting[head] {
			found[i] = &api.Behind{Volume: info.Name, Head: head, State: "waiting"}
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			found[i], errs[i] = r.headBehind(ctx, info)
		})
	}
	wg.Wait()
	var behind []api.Behind
	for i := range found {
		if found[i] != nil {
			behind = append(behind, *found[i])
		}
		if err == nil {
			err = errs[i]
		}
	}
	return behind, err
}

func (r *remote) headBehind(ctx context.Context, info volume.Info) (*api.Behind, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	st, err := r.cluster.Status(ctx, info.Head.Cid)
	if err != nil || st.State == pinset.Pinned {
		return nil, err
	}
	b := &api.Behind{Volume: info.Name, Head: info.Head.String(), State: string(st.State), Min: st.Min}
	for _, p := range st.Replicas {
		if p.Pinned {
			b.Pinned++
		}
	}
	return b, nil
}
