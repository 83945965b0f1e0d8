package overlay

import (
	"context"
	"strings"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

// Names of what overlayfs notes at the files of an upper directory (Documentation/filesystems/overlayfs.rst).
const (
	xattrPrefix  = "trusted.overlay."
	xattrEscape  = xattrPrefix + "overlay." // before the rest of a user's own name that begins with the prefix
	xattrOpaque  = xattrPrefix + "opaque"
	xattrMove    = xattrPrefix + "redirect"
	xattrMeta    = xattrPrefix + "metacopy"
	opaqueMerged = "y"
)

// marks are what overlayfs says of an upper file.
type marks struct {
	opaque   bool   // a directory that hides the lower one
	redirect string // where in the lower layer the file's data or directory is, if not at its own name
	metacopy bool   // only the attributes are in upper
}

// split takes the marks out of an entry's attributes, and gives the user's own names back.
func split(ctx context.Context, s *tree.Snapshot, e tree.Entry) (marks, meta.Attr, error) {
	xs, err := s.Xattrs(ctx, e)
	if err != nil {
		return marks{}, meta.Attr{}, err
	}
	var m marks
	attr := e.Attr
	attr.Xattrs, attr.XattrsAt = nil, meta.Attr{}.XattrsAt
	for _, x := range xs {
		switch {
		case strings.HasPrefix(x.Name, xattrEscape):
			x.Name = xattrPrefix + strings.TrimPrefix(x.Name, xattrEscape)
			attr.Xattrs = append(attr.Xattrs, x)
		case !strings.HasPrefix(x.Name, xattrPrefix):
			attr.Xattrs = append(attr.Xattrs, x)
		case x.Name == xattrOpaque:
			m.opaque = string(x.Value) == opaqueMerged
		case x.Name == xattrMove:
			m.redirect = string(x.Value)
		case x.Name == xattrMeta:
			m.metacopy = true
		}
	}
	sortXattrs(attr.Xattrs)
	return m, attr, nil
}
