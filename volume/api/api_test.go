package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

func TestClientsBlocksKeepTheContract(t *testing.T) {
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks {
		return dial(t, serve(t, newMemoryHost().host(), ServerOptions{})).Blocks
	})
}

func TestClientsBlocksKeepTheContractOverAStore(t *testing.T) {
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks {
		h, _ := storeHost(t)
		return dial(t, serve(t, h, ServerOptions{})).Blocks
	})
}

func TestClientsSessionKeepsTheContractOfBlocks(t *testing.T) {
	blockstest.Run(t, func(t *testing.T) snapshot.Blocks {
		h, _ := storeHost(t)
		return session(t, dial(t, serve(t, h, ServerOptions{})))
	})
}

func TestClientsPinsKeepTheContract(t *testing.T) {
	pinsettest.Run(t, func(t *testing.T) (pinset.Set, func(int) cid.Cid) {
		return dial(t, serve(t, newMemoryHost().host(), ServerOptions{})).Pins, pinsettest.Root
	})
}

func TestClientsPinsKeepTheContractOverAStore(t *testing.T) {
	pinsettest.Run(t, func(t *testing.T) (pinset.Set, func(int) cid.Cid) {
		h, _ := storeHost(t)
		return dial(t, serve(t, h, ServerOptions{})).Pins, pinsettest.Root
	})
}

func TestPinsKeepBytesThatAreNoText(t *testing.T) {
	pins := dial(t, serve(t, newMemoryHost().host(), ServerOptions{})).Pins
	want := pinset.Pin{Root: pinsettest.Root(1), Name: "\xff\xfe", Meta: map[string]string{"path": "/a\x80b"}}
	if err := pins.Add(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	st, err := pins.Status(t.Context(), want.Root)
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := st.Of(""); p.Name != want.Name || !maps.Equal(p.Meta, want.Meta) || p.Created.IsZero() {
		t.Errorf("got %+v, want %+v with a time", st.Pins, want)
	}
}

func TestTagsAndOriginsCross(t *testing.T) {
	mem := newMemoryHost()
	h := dial(t, serve(t, mem.host(), ServerOptions{}))
	ctx := t.Context()
	a, b := pinsettest.Root(1), pinsettest.Root(2)
	names := []string{"v1", "a/b ../c?d=e&f #%", "ünïcode", "\xff"}
	want := map[string]cid.Cid{}
	for i, name := range names {
		want[name] = pinsettest.Root(i)
		if err := h.Tags.Tag(ctx, name, want[name]); err != nil {
			t.Fatal(err)
		}
	}
	got, err := h.Tags.Tags(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("tags %v, want %v", got, want)
	}
	for _, name := range names {
		if err := h.Tags.Untag(ctx, name); err != nil {
			t.Error(err)
		}
	}
	if err := h.Tags.Untag(ctx, "v1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("untag what is not there: %v", err)
	}
	if err := h.Origins.MarkOwn(ctx, a); err != nil {
		t.Fatal(err)
	}
	for c, want := range map[cid.Cid]bool{a: true, b: false} {
		if own, err := h.Origins.Own(ctx, c); err != nil || own != want {
			t.Errorf("own: %v, %v; want %v", own, err, want)
		}
	}
}

func TestMarkOfOneUserSaysNothingToAnother(t *testing.T) {
	h, _ := storeHost(t)
	s := serve(t, h, ServerOptions{}).server
	mine, roots := "/v1/own/"+pinsettest.Root(1).String(), "/v1/own/"+pinsettest.Root(2).String()
	for path, uid := range map[string]uint32{mine: 1000, roots: 0} {
		if code, text := asUser(s, uid, http.MethodPut, path, "", nil); code != http.StatusNoContent {
			t.Fatalf("mark: %d %s", code, text)
		}
	}
	for _, c := range []struct {
		path string
		uid  uint32
		own  bool
	}{{mine, 1000, true}, {mine, 0, false}, {mine, 1001, false}, {roots, 0, true}, {roots, 1000, true}} {
		want := fmt.Sprintf("{\"own\":%v}\n", c.own)
		if code, text := asUser(s, c.uid, http.MethodGet, c.path, "", nil); code != http.StatusOK || text != want {
			t.Errorf("user %d asks for %s: %d %s, want %s", c.uid, c.path, code, text, want)
		}
	}
}

func TestUpkeepCrosses(t *testing.T) {
	mem := newMemoryHost()
	want := Collected{RemovedBlocks: 1, RemovedBytes: 2, FreedBytes: 3, KeptBlocks: 4, KeptBytes: 5, Missing: []cid.Cid{pinsettest.Root(1)}, Elsewhere: []cid.Cid{pinsettest.Root(2)}}
	var asked []bool
	mem.collect = func(_ context.Context, dry bool) (Collected, error) {
		asked = append(asked, dry)
		return want, nil
	}
	h := dial(t, serve(t, mem.host(), ServerOptions{Version: "v9"}))
	for _, dry := range []bool{true, false} {
		got, err := h.Upkeep.Collect(t.Context(), dry)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(cid.Cid.Equals)); diff != "" {
			t.Errorf("collected (-want +got):\n%s", diff)
		}
	}
	if fmt.Sprint(asked) != "[true false]" {
		t.Errorf("dry run arrived as %v", asked)
	}
	st, err := h.Upkeep.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (Status{Home: "/h", Daemon: true, Version: "v9", Pins: 7}); st != want {
		t.Errorf("status %+v, want %+v", st, want)
	}
	if err := h.Upkeep.Drop(t.Context(), pinsettest.Root(2)); err != nil || len(mem.dropped) != 1 || mem.dropped[0] != pinsettest.Root(2) {
		t.Errorf("dropped %v: %v", mem.dropped, err)
	}
}

func TestErrorsKeepTheirIdentity(t *testing.T) {
	errOwn := errors.New("of the host's own")
	more := []ErrorKind{{Name: "own", Err: errOwn, Status: 409}}
	mem := newMemoryHost()
	var give error
	mem.collect = func(context.Context, bool) (Collected, error) { return Collected{}, give }
	d := serve(t, mem.host(), ServerOptions{Kinds: more})
	h, err := Dial(t.Context(), d.path, DialOptions{Kinds: more})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, want := range append(more, kinds()...) {
		give = fmt.Errorf("while at it: %w\ndo this", want.Err)
		_, err := h.Upkeep.Collect(t.Context(), false)
		if !errors.Is(err, want.Err) || err.Error() != give.Error() {
			t.Errorf("%s became %v", want.Name, err)
		}
		for _, other := range append(more, kinds()...) {
			if errors.Is(err, other.Err) != errors.Is(give, other.Err) {
				t.Errorf("%s is %s only on one side", want.Name, other.Name)
			}
		}
	}
	give = fmt.Errorf("%w: %w", snapshot.ErrDamaged, syscall.EIO)
	if _, err := h.Upkeep.Collect(t.Context(), false); !errors.Is(err, snapshot.ErrDamaged) || !errors.Is(err, syscall.EIO) {
		t.Errorf("two kinds became %v", err)
	}
	give = errors.New("nobody knows")
	if _, err := h.Upkeep.Collect(t.Context(), false); err == nil || err.Error() != "nobody knows" {
		t.Errorf("an unknown error became %v", err)
	}
}

func TestErrorInTheMiddleOfAListArrives(t *testing.T) {
	mem := newMemoryHost()
	mem.pins = brokenPins{mem.pins}
	h := dial(t, serve(t, mem.host(), ServerOptions{}))
	n := 0
	var last error
	for _, err := range h.Pins.All(t.Context()) {
		if last = err; err == nil {
			n++
		}
	}
	if n != 1000 || !errors.Is(last, snapshot.ErrDamaged) {
		t.Errorf("%d pins, then %v; want 1000, then damaged", n, last)
	}
}

type brokenPins struct{ pinset.Set }

func (brokenPins) All(context.Context) iter.Seq2[pinset.Pin, error] {
	return func(yield func(pinset.Pin, error) bool) {
		for i := range 1000 {
			if !yield(pinset.Pin{Root: pinsettest.Root(i)}, nil) {
				return
			}
		}
		yield(pinset.Pin{}, snapshot.ErrDamaged)
	}
}

func TestFullDiskIsToldFromTheMiddleOfAPut(t *testing.T) {
	mem := newMemoryHost()
	mem.put = func(context.Context) error { return &fs.PathError{Op: "write", Path: "pack", Err: syscall.ENOSPC} }
	h := dial(t, serve(t, mem.host(), ServerOptions{}))
	for range 5 {
		if err := h.Blocks.Put(t.Context(), blockstest.Random(1, 12, 1<<20)...); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v, want ENOSPC", err)
		}
	}
}

func TestLongListsOfCIDsAreAskedInParts(t *testing.T) {
	mem := newMemoryHost()
	h := dial(t, serve(t, mem.host(), ServerOptions{}))
	bs := blockstest.Random(3, 2*maxCIDs+10, 8)
	var cs []cid.Cid
	for _, b := range bs {
		cs = append(cs, b.Cid())
	}
	if err := h.Blocks.Put(t.Context(), bs[:len(bs)/2]...); err != nil {
		t.Fatal(err)
	}
	has, err := h.Blocks.Has(t.Context(), cs...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range has {
		if has[i] != (i < len(bs)/2) {
			t.Fatalf("block %d: %v", i, has[i])
		}
	}
}

func TestDamageOnTheWayIsNoticed(t *testing.T) {
	mem := newMemoryHost()
	h := mem.host()
	right, wrong := blockstest.Raw([]byte("right")), blockstest.Raw([]byte("wrong"))
	h.Blocks = lyingBlocks{mem.Memory, wrong.RawData()}
	got, err := dial(t, serve(t, h, ServerOptions{})).Blocks.Get(t.Context(), right.Cid())
	if !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("got %v, %v; want damaged", got, err)
	}
}

type lyingBlocks struct {
	*blockstest.Memory
	data []byte
}

func (l lyingBlocks) GetInto(context.Context, cid.Cid, []byte) ([]byte, error) { return l.data, nil }

func TestDialSaysWhyItCannot(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(t.Context(), dir+"/none", DialOptions{}); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("no socket: %v", err)
	}
	l, err := Listen(dir+"/dead", -1)
	if err != nil {
		t.Fatal(err)
	}
	l.(*socket).UnixListener.Close() // leaves the file, as kill -9 does
	if _, err := os.Lstat(dir + "/dead"); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), dir+"/dead", DialOptions{}); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("a dead daemon: %v", err)
	}
	if _, err := Dial(t.Context(), "/"+strings.Repeat("x", 200), DialOptions{}); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("a path that is too long: %v", err)
	}
}

func TestDaemonThatGoesAwayIsUnavailable(t *testing.T) {
	d := serve(t, newMemoryHost().host(), ServerOptions{})
	h := dial(t, d)
	d.stop()
	if _, err := h.Upkeep.Status(t.Context()); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
}

func TestServerThatStopsEndsRequestsAndSaysSo(t *testing.T) {
	mem := newMemoryHost()
	begun := make(chan struct{})
	mem.collect = func(ctx context.Context, _ bool) (Collected, error) {
		close(begun)
		<-ctx.Done()
		return Collected{}, ctx.Err()
	}
	d := serve(t, mem.host(), ServerOptions{Grace: 1})
	h := dial(t, d)
	failed := make(chan error)
	go func() {
		_, err := h.Upkeep.Collect(context.Background(), false)
		failed <- err
	}()
	<-begun
	d.stop()
	if err := <-failed; !errors.Is(err, snapshot.ErrUnavailable) || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("got %v, want that the daemon is stopping", err)
	}
}

func TestCallerWhoGivesUpEndsTheWork(t *testing.T) {
	mem := newMemoryHost()
	begun, ended := make(chan struct{}), make(chan error, 1)
	mem.collect = func(ctx context.Context, _ bool) (Collected, error) {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return Collected{}, ctx.Err()
	}
	h := dial(t, serve(t, mem.host(), ServerOptions{}))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := h.Upkeep.Collect(ctx, false)
		failed <- err
	}()
	<-begun
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller got %v", err)
	}
	<-ended
}

func TestBodyOfBlocksReadsAsItIsWritten(t *testing.T) {
	bs := blockstest.Random(5, 50, 3000)
	bs = append(bs, blockstest.Random(6, 2, 300<<10)...)
	read, err := io.ReadAll(&blockBody{blocks: bs})
	if err != nil {
		t.Fatal(err)
	}
	var written strings.Builder
	n, err := (&blockBody{blocks: bs}).WriteTo(&written)
	if err != nil || n != int64(len(read)) || written.String() != string(read) {
		t.Errorf("%d bytes written, %d read: %v", n, len(read), err)
	}
}
