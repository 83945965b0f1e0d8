package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

// countedBlocks counts what is read of it, and says of one block that it is damaged.
type countedBlocks struct {
	*blockstest.Memory
	damaged cid.Cid
	reads   *atomic.Int64
}

func (b countedBlocks) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	b.reads.Add(1)
	if c == b.damaged {
		return nil, fmt.Errorf("%s: %w", c, snapshot.ErrDamaged)
	}
	return b.Memory.Get(ctx, c)
}

func cidsOf(bs []blocks.Block) []cid.Cid {
	var cs []cid.Cid
	for _, b := range bs {
		cs = append(cs, b.Cid())
	}
	return cs
}

func TestDamagedBlockAmongManyFailsAlone(t *testing.T) {
	mem := newMemoryHost()
	bs := blockstest.Random(1, 3, 100)
	if err := mem.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	h := mem.host()
	h.Blocks = countedBlocks{mem.Memory, bs[1].Cid(), new(atomic.Int64)}
	var logged logBuffer
	client := dial(t, serve(t, h, ServerOptions{Logger: logged.logger()}))
	i := 0
	for b, err := range snapshot.GetMany(t.Context(), client.Blocks, cidsOf(bs)...) {
		switch {
		case i == 1 && !errors.Is(err, snapshot.ErrDamaged):
			t.Errorf("the damaged block: %v", err)
		case i != 1 && (err != nil || !bytes.Equal(b.RawData(), bs[i].RawData())):
			t.Errorf("block %d: %v", i, err)
		}
		i++
	}
	if i != len(bs) {
		t.Errorf("%d answers to %d questions", i, len(bs))
	}
	if !strings.Contains(logged.String(), bs[1].Cid().String()) {
		t.Errorf("the damage is not in the log: %s", &logged)
	}
}

func TestLoopThatEndsGetsNoFurtherBlocks(t *testing.T) {
	mem := newMemoryHost()
	bs := blockstest.Random(1, 20, 300<<10)
	if err := mem.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	h := mem.host()
	reads := new(atomic.Int64)
	h.Blocks = countedBlocks{Memory: mem.Memory, reads: reads}
	for _, err := range snapshot.GetMany(t.Context(), dial(t, serve(t, h, ServerOptions{})).Blocks, cidsOf(bs)...) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if n := reads.Load(); n > 4 {
		t.Errorf("%d blocks were read for the first of them", n)
	}
}

func TestSessionThatHasEndedGetsNothing(t *testing.T) {
	h := dial(t, serve(t, newMemoryHost().host(), ServerOptions{}))
	s := session(t, h)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range snapshot.GetMany(t.Context(), s, cidsOf(blockstest.Random(1, 3, 10))...) {
		if !errors.Is(err, ErrSession) {
			t.Errorf("got %v", err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d answers to 3 questions", n)
	}
}

// answering is a daemon that answers everything but the version as it is told.
func answering(t *testing.T, answer http.HandlerFunc) snapshot.Blocks {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"api":%d}`, Version) })
	mux.HandleFunc("/", answer)
	srv := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() { srv.Serve(l); close(served) }()
	t.Cleanup(func() { srv.Close(); <-served })
	return dial(t, &daemon{path: path}).Blocks
}

func TestAnswerThatIsNotWhatWasAskedIsRefused(t *testing.T) {
	bs := blockstest.Random(1, 2, 10)
	frame := func(b blocks.Block) string { return "\x00" + string(appendString(nil, b.RawData())) }
	large := "\x00" + string(appendString(nil, make([]byte, gotBytes)))
	for _, tc := range []struct {
		name, answer string
		cut          bool
		want         []error // for the first and the second
	}{
		{"nothing", "", false, []error{snapshot.ErrUnavailable, snapshot.ErrUnavailable}},
		{"another block", frame(bs[1]) + frame(bs[1]), false, []error{snapshot.ErrDamaged, nil}},
		{"too many", frame(bs[0]) + frame(bs[1]) + frame(bs[1]), false, []error{snapshot.ErrUnavailable, snapshot.ErrUnavailable}},
		{"too much", large + large, false, []error{snapshot.ErrUnavailable, snapshot.ErrUnavailable}},
		{"cut in a block", frame(bs[0]) + frame(bs[1])[:5], true, []error{snapshot.ErrUnavailable, snapshot.ErrUnavailable}},
		{"cut between blocks", frame(bs[0]), true, []error{snapshot.ErrUnavailable, snapshot.ErrUnavailable}},
		{"ends in a block", frame(bs[0])[:5], false, []error{snapshot.ErrUnavailable, snapshot.ErrUnavailable}},
		{"a size beyond all", "\x00\xff\xff\xff\xff\x7f", false, []error{snapshot.ErrUnavailable, snapshot.ErrUnavailable}},
		{"an error beyond all", "\xff\xff\xff\xff\x7f", false, []error{snapshot.ErrUnavailable, snapshot.ErrUnavailable}},
	} {
		b := answering(t, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			w.Write([]byte(tc.answer))
			if tc.cut {
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
		})
		var got []error
		for _, err := range snapshot.GetMany(t.Context(), b, cidsOf(bs)...) {
			got = append(got, err)
		}
		if !slices.EqualFunc(got, tc.want, errors.Is) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestOlderDaemonIsAskedForOneBlockAtATime(t *testing.T) {
	bs := blockstest.Random(1, 3, 10)
	d := serve(t, newMemoryHost().host(), ServerOptions{})
	b := answering(t, func(w http.ResponseWriter, r *http.Request) {
		for _, k := range bs {
			if r.Method == http.MethodGet && r.URL.Path == prefix+"/blocks/"+k.Cid().String() {
				w.Write(k.RawData())
				return
			}
		}
		r.URL.Path = prefix + "/no-such-route"
		d.server.mux.ServeHTTP(&responder{ResponseWriter: w, control: http.NewResponseController(w), stall: DefaultStallTimeout}, r)
	})
	i := 0
	for got, err := range snapshot.GetMany(t.Context(), b, cidsOf(bs)...) {
		if err != nil || got.Cid() != bs[i].Cid() {
			t.Errorf("block %d: %v", i, err)
		}
		i++
	}
	if i != len(bs) {
		t.Errorf("%d answers to %d questions", i, len(bs))
	}
}
