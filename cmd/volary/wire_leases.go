package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/head/lease"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/volume"
)

// openLeases makes the leases of a host that is to be in the network of its namespace; nil if it is alone.
func (h *home) openLeases(log *slog.Logger) (*lease.Leases, error) {
	if !h.config.networked() {
		return nil, nil
	}
	ns, _, err := h.namespace()
	if err != nil {
		return nil, err
	}
	text, err := h.peerID()
	if err != nil {
		return nil, err
	}
	self, err := peer.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("peer ID in %s: %w", h.path("peer-id"), err)
	}
	name, err := os.Hostname()
	if err != nil {
		log.Warn("other hosts are not told this one's name", "error", err)
	}
	return lease.New(lease.Options{Self: self, Namespace: ns, Host: name, Log: log})
}

// volumeLeases are leases of volumes that go by their IDs.
type volumeLeases struct{ leases *lease.Leases }

var _ volume.Leases = volumeLeases{}

func (l volumeLeases) Acquire(ctx context.Context, id string, steal bool) error {
	name, err := namespace.ParseName(id)
	if err != nil {
		return err
	}
	err = l.leases.Acquire(ctx, name, steal)
	var held *lease.HeldError
	if errors.As(err, &held) {
		return fmt.Errorf("%w: %w", volume.ErrLeased, err)
	}
	return err
}

func (l volumeLeases) Keep(id string) {
	if name, err := namespace.ParseName(id); err == nil {
		l.leases.Keep(name)
	}
}

func (l volumeLeases) End(id string, ending bool) {
	if name, err := namespace.ParseName(id); err == nil {
		l.leases.End(name, ending)
	}
}

func (l volumeLeases) Release(id string) {
	if name, err := namespace.ParseName(id); err == nil {
		l.leases.Release(name)
	}
}

func (l volumeLeases) Holder(id string) *volume.Lease {
	name, err := namespace.ParseName(id)
	if err != nil {
		return nil
	}
	holder, is := l.leases.Holder(name)
	if !is {
		return nil
	}
	return &volume.Lease{Peer: holder.Peer.String(), Host: holder.Host, Until: holder.Until, Here: holder.Here, Ending: holder.Ending}
}
