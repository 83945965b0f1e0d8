package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/p2p/gateway"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
)

// signed is what is signed of a host's volumes: what the table of heads has.
type signed struct {
	home *home
	host *api.Host
}

func (s signed) Signed(ctx context.Context, name string) (api.Signed, error) {
	v, err := s.volume(ctx, name)
	if id, notName := namespace.ParseName(name); notName == nil && errors.Is(err, fs.ErrNotExist) {
		return s.home.far.signed(ctx, id)
	}
	if errors.Is(err, table.ErrUnknown) || err == nil && (v.Binding.Data == nil || v.Head.Record == nil) {
		err = fmt.Errorf("%q: nothing is signed of it yet: %w", name, volume.ErrNotFound)
	}
	if err != nil {
		return api.Signed{}, err
	}
	return api.Signed{
		Volume: v.Key.String(), Name: v.Binding.Name, Head: volume.CID{Cid: v.Head.Commit}, Sequence: v.Head.Sequence, Removed: v.Removed(),
		Value: valueOf(v.Head.Commit), Record: v.Head.Record, Binding: v.Binding.Data,
	}, nil
}

// valueOf is where a volume is that is at a commit, for any IPFS program.
func valueOf(commit cid.Cid) string { return "/ipfs/" + commit.String() + "/tree" }

// signed is what gateways say of an IPNS name.
func (f *far) signed(ctx context.Context, name ipns.Name) (api.Signed, error) {
	if f.gateways == nil {
		return api.Signed{}, hinted{fmt.Errorf("/ipns/%s is no volume of this namespace: %w", name, volume.ErrNotFound), "`volary pull --gateway URL` and gateways in config.toml look for it elsewhere"}
	}
	return signedBy(ctx, f.gateways, name)
}

func signedBy(ctx context.Context, g *gateway.Gateways, name ipns.Name) (s api.Signed, _ error) {
	record, err := g.Record(ctx, name)
	if err != nil {
		return s, err
	}
	r, err := ipns.UnmarshalRecord(record)
	if err != nil {
		return s, err
	}
	value, err := r.Value()
	if err != nil {
		return s, err
	}
	s = api.Signed{Volume: name.String(), Value: value.String(), Record: record}
	s.Sequence, err = r.Sequence()
	return s, err
}

// volume is what the table has of a volume, by its IPNS name or the name that it has on this host.
func (s signed) volume(ctx context.Context, name string) (table.Volume, error) {
	m, err := s.manager()
	if err != nil {
		return table.Volume{}, err
	}
	if m == nil {
		return table.Volume{}, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
	}
	id, err := namespace.ParseName(name)
	if err == nil {
		return s.home.known.Volume(id)
	}
	text, err := m.ID(ctx, name)
	if err != nil {
		return table.Volume{}, err
	}
	if id, err = namespace.ParseName(text); err != nil {
		return table.Volume{}, err
	}
	return s.home.known.Volume(id)
}

// manager is the host's volumes, nil if there never were any.
func (s signed) manager() (*volume.Manager, error) {
	switch vs := s.host.Volumes.(type) {
	case *volume.Manager:
		return vs, nil
	case *lazyVolumes:
		if vs.none() {
			return nil, nil
		}
		return vs.open()
	}
	return nil, nil
}
