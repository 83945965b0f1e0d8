package holder

import (
	"context"
	"errors"
	"io/fs"

	"github.com/volary/volary/snapshot/view"
)

// Refuse gives an I/O error to who uses what an earlier process showed at dir, until what is to be shown there can be
// had and Mount or Resume is called. It is no error if nobody holds a mount at dir.
func (l *Lower) Refuse(ctx context.Context, dir string) error {
	defer l.lock(dir)()
	if m, closed := l.at(dir); m != nil || closed {
		return nil
	}
	c, was, root, err := l.heldRoot(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	srv, err := view.Refuse(c, l.o.Logger)
	if err != nil {
		return err
	}
	m := newServed(srv, root, was.Options)
	m.refused = true
	return l.serve(dir, m)
}
