package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

// All lists the pins of the namespace, the oldest first. The cluster lists in no such order: what it sends is kept
// in a file that has no name, and only its order, some words for each pin, in memory.
func (s *Set) All(ctx context.Context) iter.Seq2[pinset.Pin, error] {
	return func(yield func(pinset.Pin, error) bool) {
		const op = "list pins"
		var list *spool
		defer func() { list.close() }()
		err := s.try(ctx, op, func(e endpoint) error {
			list.close()
			var err error
			if list, err = newSpool(s.o.TempDir); err != nil {
				return fmt.Errorf("%s: %w", op, err)
			}
			return s.receive(ctx, e, op, list)
		})
		if err != nil {
			yield(pinset.Pin{}, err)
			return
		}
		for p, err := range list.sorted() {
			if err == nil {
				err = context.Cause(ctx)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// receive puts what an endpoint lists into the spool.
func (s *Set) receive(ctx context.Context, e endpoint, op string, list *spool) error {
	return s.listed(ctx, e, op, func(pin api.Pin) error {
		for _, p := range s.pins(pin) {
			if err := list.add(p); err != nil {
				return err
			}
		}
		return nil
	})
}

// spool is a list of pins in a temporary file.
type spool struct {
	file  *os.File
	out   *bufio.Writer
	size  int64
	order []spooled
}

type spooled struct {
	created time.Time
	at      int64
	length  int
}

// line is a pin in the file.
type line struct {
	Root  cid.Cid
	Owner string
	Name  string
	Meta  map[string]string
}

func newSpool(dir string) (*spool, error) {
	file, err := os.CreateTemp(dir, "volary-pins-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &spool{file: file, out: bufio.NewWriterSize(file, 64<<10)}, nil
}

func (l *spool) add(p pinset.Pin) error {
	text, err := json.Marshal(line{p.Root, p.Owner, p.Name, p.Meta})
	if err != nil {
		return err
	}
	l.order = append(l.order, spooled{p.Created, l.size, len(text)})
	l.size += int64(len(text))
	_, err = l.out.Write(text)
	return err
}

// sorted lists the pins by their creation. Those of one instant keep the cluster's order.
func (l *spool) sorted() iter.Seq2[pinset.Pin, error] {
	return func(yield func(pinset.Pin, error) bool) {
		if err := l.out.Flush(); err != nil {
			yield(pinset.Pin{}, err)
			return
		}
		slices.SortStableFunc(l.order, func(a, b spooled) int { return a.created.Compare(b.created) })
		for _, o := range l.order {
			var read line
			err := json.NewDecoder(io.NewSectionReader(l.file, o.at, int64(o.length))).Decode(&read)
			if !yield(pinset.Pin{Root: read.Root, Owner: read.Owner, Name: read.Name, Meta: read.Meta, Created: o.created}, err) || err != nil {
				return
			}
		}
	}
}

// close frees the file. A nil spool has none.
func (l *spool) close() {
	if l != nil {
		l.file.Close()
	}
}
