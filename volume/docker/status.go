package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/volary/volary/volume"
)

// status is what `docker volume inspect` shows of a volume.
func (d *Driver) status(i *volume.Info) map[string]any {
	s := map[string]any{
		"head": i.Head.String(), "sequence": i.Sequence, "files": i.Files, "bytes": i.Bytes,
	}
	set := func(key string, value any, known bool) {
		if known {
			s[key] = value
		}
	}
	set("base", i.Base.String(), i.Base.Defined())
	set("elsewhere", true, i.Elsewhere)
	set("users", i.Users, len(i.Users) > 0)
	set("options", i.Options, len(i.Options) > 0)
	set("size", sizeText(i), i.Size > 0)
	set("forks", len(i.Forks), len(i.Forks) > 0)
	set("removed_elsewhere", true, i.RemovedElsewhere)
	if d.o.Replicas != nil {
		text, known := d.o.Replicas(i.Head.Cid)
		set("replicas", text, known)
	}
	if i.Dirty != nil {
		s["dirty"] = *i.Dirty
	}
	if l := i.Lease; l != nil {
		s["lease"] = leaseText(l)
	}
	if f := i.Failure; f != nil {
		s["failure"] = f.Error
	}
	return s
}

// sizeText is what the changes may take, and whether anything keeps them from taking more.
func sizeText(i *volume.Info) string {
	text := humanize.IBytes(i.Size)
	if i.SizeEnforced != nil && !*i.SizeEnforced {
		text += ", not enforced: the file system has no project quotas, or the changes began without a size"
	}
	return text
}

func leaseText(l *volume.Lease) string {
	who := l.Peer
	switch {
	case l.Here:
		return "this host"
	case l.Host != "":
		who = fmt.Sprintf("%s (%s)", l.Host, l.Peer)
	}
	if !l.Until.IsZero() {
		who += ", until " + l.Until.Format("15:04:05") + " if it is not heard of again"
	}
	return who
}

// explain is an error in words that help who uses Docker, on one line.
func (d *Driver) explain(ctx context.Context, name string, err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, volume.ErrLeased):
		who := "another host"
		if i, err := d.o.Volumes.Describe(ctx, name); err == nil && i.Lease != nil {
			who = leaseText(i.Lease)
			if i.Lease.Ending {
				return fmt.Sprintf("volume %s is not mounted any more on %s, but what was written there is still being committed; try again", name, who)
			}
		}
		text = fmt.Sprintf("volume %s is mounted for writing on another host: %s; stop its containers there, make a volume with -o from=%s -o readonly=true to read what is committed, or take it over here with `volary volume mount --steal %s`", name, who, name, name)
	case errors.Is(err, context.DeadlineExceeded):
		what, _, _ := strings.Cut(text, "\n")
		text = fmt.Sprintf("volume %s is not ready in time (%s): its last changes are being committed or replicated, or data is waited for that no connected host has; try again, and see `volary volume inspect %s`", name, what, name)
	case errors.Is(err, context.Canceled):
		text = errClosed.Error()
	}
	return strings.Join(strings.Split(text, "\n"), "; ")
}
