package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipns"

	"github.com/volary/volary/head/published"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/p2p/trustless"
	"github.com/volary/volary/volume"
)

// listedFor is how long it is not looked again which volumes are published, however many ask.
const listedFor = time.Second

// recorder has the IPNS records of volumes that are published, for whoever asks the gateway.
type recorder struct {
	home    *home
	ns      *namespace.Namespace
	volumes *volume.Manager

	mu     sync.Mutex
	listed time.Time
	all    map[ipns.Name]bool // that are published
}

// publishedRecords gives records of the volumes of a host that have the option for being published, and of no others.
func (h *home) publishedRecords(volumes *volume.Manager) (trustless.Records, error) {
	ns, _, err := h.namespace()
	if err != nil {
		return nil, err
	}
	return (&recorder{home: h, ns: ns, volumes: volumes}).record, nil
}

func (r *recorder) record(ctx context.Context, name ipns.Name) ([]byte, error) {
	is, err := r.isPublished(ctx, name)
	if err == nil && !is {
		err = fmt.Errorf("/ipns/%s is not published: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	v, err := r.home.known.Volume(name)
	if err != nil {
		return nil, err
	}
	if v.Binding.Data == nil || v.Head.Record == nil || v.Head.IsFork() {
		return nil, fmt.Errorf("/ipns/%s is not signed yet, or a fork: %w", name, fs.ErrNotExist)
	}
	key, err := r.ns.Key(v.Binding)
	if errors.Is(err, namespace.ErrReadOnly) {
		err = fmt.Errorf("/ipns/%s is published by hosts that may write: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	// The same for a while, so that who has it need not get it again.
	until := time.Now().Truncate(published.DefaultLifetime / 2).Add(published.DefaultLifetime)
	h, err := v.Head.Copy(key, until)
	return h.Record, err
}

func (r *recorder) isPublished(ctx context.Context, name ipns.Name) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all != nil && time.Since(r.listed) < listedFor {
		return r.all[name], nil
	}
	all, err := publishedVolumes(r.volumes)
	if err == nil {
		r.all, r.listed = all, time.Now()
	}
	return all[name], err
}

// publishedVolumes are those that have the option for being published.
func publishedVolumes(volumes *volume.Manager) (map[ipns.Name]bool, error) {
	ids, err := volumes.Published()
	if err != nil {
		return nil, err
	}
	all := map[ipns.Name]bool{}
	for _, id := range ids {
		name, err := namespace.ParseName(id)
		if err != nil {
			return nil, err
		}
		all[name] = true
	}
	return all, nil
}

func isPublished(i *volume.Info) bool {
	o, err := volume.ParseOptions(i.Options)
	return err == nil && o.Publish
}
