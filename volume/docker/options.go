package docker

import (
	"context"
	"fmt"
	"maps"

	"github.com/volary/volary/volume"
)

// optionFrom names the snapshot that a volume begins as; all others are a volume's own.
const optionFrom = "from"

// createOf is what makes the volume that an engine asks for. The engine lets names through that are paths.
func createOf(req request) (*volume.Create, error) {
	if err := volume.CheckName(req.Name); err != nil {
		return nil, err
	}
	if len(req.Name) == 1 {
		return nil, fmt.Errorf("volume name %q has one character: %w\n`docker run -v %s:…` would take it for a drive", req.Name, volume.ErrInvalid, req.Name)
	}
	op := &volume.Create{Name: req.Name, From: req.Opts[optionFrom], Options: maps.Clone(req.Opts)}
	delete(op.Options, optionFrom)
	if from, given := req.Opts[optionFrom]; given && from == "" {
		return nil, fmt.Errorf("option from=: %w\nfrom is a snapshot to begin with: a CID, a tag or VOLUME@STATE", volume.ErrInvalid)
	}
	return op, op.Check(optionFrom)
}

// same is nil if a volume that is there has the options that it was to be made with, and otherwise why it was not made.
func (d *Driver) same(ctx context.Context, op *volume.Create, why error) error {
	i, err := d.o.Volumes.Describe(ctx, op.Name)
	if err != nil || op.From != "" || i.Elsewhere || !maps.Equal(i.Options, op.Options) {
		return why
	}
	return nil
}
