package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"

	"github.com/volary/volary/snapshot"
)

const (
	carType = "application/vnd.ipld.car; version=1; order=dfs; dups=n"
	carBuf  = 1 << 20
	// maxHeader and maxCID bound what is read before a block's bytes.
	maxHeader = 4 << 10
	maxCID    = 256
)

var (
	errStalled  = errors.New("it stopped sending")
	errNotAsked = errors.New("it sent a block that was not asked for")
	errCutShort = errors.New("it did not send all")
)

// DAG gets all blocks that root reaches with one request, a CAR, from the first gateway that begins to send it: each
// block once, root first, every other after one that links to it. What a gateway sends beside that ends it. After an
// error the blocks that came are good, and [Gateways.Get] may get the others. Memory is bounded by the CIDs of the DAG.
func (g *Gateways) DAG(ctx context.Context, root cid.Cid) iter.Seq2[blocks.Block, error] {
	return func(yield func(blocks.Block, error) bool) {
		var said []error
		for _, gw := range g.all {
			if gw.rests() {
				continue
			}
			began, err := g.dagFrom(ctx, gw, root, func(b blocks.Block) bool { return yield(b, nil) })
			if err == nil {
				return
			}
			said = append(said, fmt.Errorf("%s: %w", gw.name, err))
			if began || ctx.Err() != nil {
				break
			}
		}
		if err := ctx.Err(); err != nil {
			yield(nil, fmt.Errorf("get all of %s: %w", root, err))
			return
		}
		if len(said) == 0 {
			said = append(said, errors.New("there is no gateway that answers"))
		}
		yield(nil, &notFetched{"all of " + root.String(), said})
	}
}

// dagFrom is DAG from one gateway. began says that blocks came.
func (g *Gateways) dagFrom(ctx context.Context, gw *gateway, root cid.Cid, take func(blocks.Block) bool) (began bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(g.o.Timeout, func() { cancel(errStalled) })
	defer watchdog.Stop()
	body, err := g.openCAR(ctx, gw, root)
	if err != nil {
		err = stallOr(ctx, err)
		gw.failed(err)
		return false, err
	}
	defer body.Close()
	in, err := car.NewBlockReader(bufio.NewReaderSize(body, carBuf), car.MaxAllowedHeaderSize(maxHeader),
		car.MaxAllowedSectionSize(snapshot.MaxBlockSize+maxCID), car.WithTrustedCAR(true))
	if err != nil {
		return false, fmt.Errorf("no CAR: %w", stallOr(ctx, err))
	}
	want := newExpected(root)
	for want.left > 0 {
		blk, err := in.Next()
		if err == io.EOF {
			err = errCutShort
		}
		if err == nil {
			err = want.check(blk)
		}
		if err != nil {
			err = stallOr(ctx, withoutURL(err))
			gw.failed(err)
			return began, err
		}
		began = true
		watchdog.Stop() // who takes blocks may take as long as that takes
		if !take(blk) {
			return true, nil
		}
		watchdog.Reset(g.o.Timeout)
	}
	gw.worked()
	return true, nil
}

// openCAR asks for a DAG.
func (g *Gateways) openCAR(ctx context.Context, gw *gateway, root cid.Cid) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, gw.base+"/ipfs/"+root.String()+"?format=car&dag-scope=all", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", carType)
	res, err := g.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	switch res.StatusCode {
	case http.StatusOK:
		return res.Body, nil
	case http.StatusNotFound, http.StatusGone:
		err = errAbsent
	default:
		err = fmt.Errorf("it answered %s", res.Status)
	}
	return nil, errors.Join(err, res.Body.Close())
}

// stallOr is why a request was given up, or what went wrong with it.
func stallOr(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// expected are the blocks of a DAG of which some came. It must be made by newExpected.
type expected struct {
	came map[cid.Cid]bool // of what is linked to, and root
	left int              // that did not come
}

func newExpected(root cid.Cid) *expected { return &expected{map[cid.Cid]bool{root: false}, 1} }

// check refuses a block that is damaged, not linked to, or came before.
func (e *expected) check(blk blocks.Block) error {
	if came, known := e.came[blk.Cid()]; came || !known {
		return fmt.Errorf("%w: %s", errNotAsked, blk.Cid())
	}
	if err := snapshot.CheckHash(blk); err != nil {
		return err
	}
	links, err := snapshot.Links(blk)
	if err != nil {
		return err
	}
	e.came[blk.Cid()] = true
	e.left--
	for _, l := range links {
		if _, known := e.came[l]; !known {
			e.came[l] = false
			e.left++
		}
	}
	return nil
}
