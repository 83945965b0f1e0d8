package view

import (
	"context"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/volary/volary/snapshot/meta"
)

// How overlayfs tells its own attributes from those of its users (Documentation/filesystems/overlayfs.rst).
const (
	overlayPrefix = "trusted.overlay."
	overlayEscape = overlayPrefix + "overlay."
)

// nameShown is the name an attribute is shown by.
func (v *View) nameShown(name string) string {
	if rest, ok := strings.CutPrefix(name, overlayPrefix); ok && v.o.Lower {
		return overlayEscape + rest
	}
	return name
}

func (v *View) xattrs(ctx context.Context, id uint64) ([]meta.Xattr, fuse.Status) {
	if !v.hasXattrs() {
		if v.told != nil {
			return nil, fuse.OK // what is shown next may have some
		}
		return nil, fuse.ENOSYS
	}
	n, _, p, err := v.of(ctx, id)
	if err != nil || n.more == nil {
		return nil, v.status(p, err)
	}
	xs, err := v.snap.Xattrs(ctx, n.entry())
	return xs, v.status(p, err)
}

// GetXAttr implements [fuse.RawFileSystem].
func (v *View) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	ctx, done := v.within()
	defer done()
	xs, status := v.xattrs(ctx, h.NodeId)
	if !status.Ok() {
		return 0, status
	}
	for _, x := range xs {
		if v.nameShown(x.Name) == name {
			return fill(dest, x.Value)
		}
	}
	return 0, fuse.ENOATTR
}

// ListXAttr implements [fuse.RawFileSystem].
func (v *View) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	ctx, done := v.within()
	defer done()
	xs, status := v.xattrs(ctx, h.NodeId)
	if !status.Ok() {
		return 0, status
	}
	var names []byte
	for _, x := range xs {
		names = append(append(names, v.nameShown(x.Name)...), 0)
	}
	return fill(dest, names)
}

func fill(dest, value []byte) (uint32, fuse.Status) {
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}
