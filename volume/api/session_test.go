package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/dagcbor"
	"github.com/volary/volary/snapshot/importer"
)

// callerSocket makes the test binary a caller that holds a session open until it is killed.
const callerSocket = "VOLARY_TEST_CALLER_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(callerSocket); path != "" {
		holdSession(path)
	}
	os.Exit(m.Run())
}

func holdSession(path string) {
	h, err := Dial(context.Background(), path, DialOptions{})
	if err == nil {
		_, err = h.Sessions.Session(context.Background())
	}
	fmt.Println("session:", err)
	select {}
}

func TestSessionEndsWhenItsCallerIsKilled(t *testing.T) {
	mem := newMemoryHost()
	d := serve(t, mem.host(), ServerOptions{})
	caller := exec.Command(os.Args[0])
	caller.Env = append(os.Environ(), callerSocket+"="+d.path)
	out, err := caller.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := caller.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("session: <nil>"))
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "session: <nil>" {
		t.Fatalf("the caller says %q: %v", line, err)
	}
	held := <-mem.begun
	select {
	case <-held.closed:
		t.Fatal("the session ended before its caller")
	default:
	}
	if err := caller.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	caller.Wait()
	<-held.closed
}

func TestSessionHasEndedWhenCloseReturns(t *testing.T) {
	mem := newMemoryHost()
	h := dial(t, serve(t, mem.host(), ServerOptions{}))
	s, err := h.Sessions.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-(<-mem.begun).closed:
	default:
		t.Error("the session is still open on the server")
	}
	if err := s.Put(t.Context(), blockstest.Raw(nil)); !errors.Is(err, ErrSession) {
		t.Errorf("put after close: %v", err)
	}
}

func TestSessionOutlivesTheContextItWasBegunWith(t *testing.T) {
	h := dial(t, serve(t, newMemoryHost().host(), ServerOptions{}))
	ctx, cancel := cancelable(t)
	s, err := h.Sessions.Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cancel()
	if err := s.Put(t.Context(), blockstest.Raw(nil)); err != nil {
		t.Error(err)
	}
}

func TestEverythingOfASessionFailsOnceTheServerHasStopped(t *testing.T) {
	d := serve(t, newMemoryHost().host(), ServerOptions{})
	s := session(t, dial(t, d)).(*remoteSession)
	d.stop()
	<-s.gone
	for name, err := range map[string]error{
		"put":  s.Put(t.Context(), blockstest.Raw(nil)),
		"sync": s.Sync(t.Context()),
		"save": s.SaveStat(t.Context(), []importer.StatRecord{{Key: []byte("k")}}),
	} {
		if !errors.Is(err, ErrSession) || !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("%s: %v, want that the session ended because the daemon stopped", name, err)
		}
	}
}

func TestManySessionsLeaveRoomForRequests(t *testing.T) {
	h := dial(t, serve(t, newMemoryHost().host(), ServerOptions{}))
	for range clientConns + 5 {
		session(t, h)
	}
	if _, err := h.Upkeep.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestMoreSessionsThanAUserMayHaveAreRefused(t *testing.T) {
	h := dial(t, serve(t, newMemoryHost().host(), ServerOptions{}))
	for range maxSessions {
		session(t, h)
	}
	if _, err := h.Sessions.Session(t.Context()); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v, want too many", err)
	}
}

func TestSessionOfAnotherUserIsNotThere(t *testing.T) {
	mem := newMemoryHost()
	d := serve(t, mem.host(), ServerOptions{})
	s := session(t, dial(t, d)).(*remoteSession)
	own, other := uint32(os.Getuid()), uint32(os.Getuid()+1)
	for uid, want := range map[uint32]int{own: http.StatusNoContent, other: http.StatusGone} {
		if got, _ := asUser(d.server, uid, http.MethodPost, "/v1/stat/load", s.session, []byte("k")); got != want {
			t.Errorf("user %d got status %d, want %d", uid, got, want)
		}
	}
}

// asUser makes a request as a user whose process this is not.
func asUser(s *Server, uid uint32, method, path, session string, body []byte) (int, string) {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.Header.Set(sessionHeader, session)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r.WithContext(withUser(r.Context(), uid)))
	return w.Code, w.Body.String()
}

func TestStatRecordsCross(t *testing.T) {
	for name, host := range map[string]*Host{"memory": newMemoryHost().host(), "store": onStore(t)} {
		s := session(t, dial(t, serve(t, host, ServerOptions{})))
		leaf := blockstest.Raw([]byte(name))
		if err := s.Put(t.Context(), leaf); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"a": "1", "b": "", "c\x00\xff": strings.Repeat("x", 5<<20), "d": strings.Repeat("y", 1<<20)}
		var recs []importer.StatRecord
		for k, v := range want {
			recs = append(recs, importer.StatRecord{Key: []byte(k), Value: []byte(v), Roots: []cid.Cid{leaf.Cid()}})
		}
		if err := s.SaveStat(t.Context(), recs); err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if got, err := s.LoadStat(t.Context(), []byte(k)); err != nil || got == nil || string(got) != v {
				t.Errorf("%s: %q is %.10q, want %.10q: %v", name, k, got, v, err)
			}
		}
		if got, err := s.LoadStat(t.Context(), []byte("unknown")); got != nil || err != nil {
			t.Errorf("%s: an unknown key is %q, %v; want nothing", name, got, err)
		}
	}
}

func onStore(t *testing.T) *Host {
	h, _ := storeHost(t)
	return h
}

func TestRecordTooLargeForTheServerIsForgotten(t *testing.T) {
	s := session(t, dial(t, serve(t, newMemoryHost().host(), ServerOptions{})))
	small, large := []byte("small"), []byte("large")
	recs := []importer.StatRecord{{Key: large, Value: make([]byte, maxStatValue+1)}, {Key: small, Value: small}, {Key: make([]byte, maxStatKey+1)}}
	if err := s.SaveStat(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"small": "small", "large": ""} {
		if got, err := s.LoadStat(t.Context(), []byte(key)); err != nil || string(got) != want {
			t.Errorf("%s is %q, want %q: %v", key, got, want, err)
		}
	}
}

func TestNobodyReadsOrWritesStatRecordsOfAnotherUser(t *testing.T) {
	mem := newMemoryHost()
	for uid := range uint32(3) {
		x, _ := mem.Session(t.Context())
		s := ForCaller(x, uid)
		if err := s.SaveStat(t.Context(), []importer.StatRecord{{Key: []byte("k"), Value: fmt.Append(nil, uid)}}); err != nil {
			t.Fatal(err)
		}
	}
	for uid := range uint32(3) {
		x, _ := mem.Session(t.Context())
		if got, err := ForCaller(x, uid).LoadStat(t.Context(), []byte("k")); err != nil || string(got) != fmt.Sprint(uid) {
			t.Errorf("user %d reads %q: %v", uid, got, err)
		}
	}
	s := session(t, dial(t, serve(t, mem.host(), ServerOptions{})))
	if err := s.SaveStat(t.Context(), []importer.StatRecord{{Key: []byte("k"), Value: []byte("by socket")}}); err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprintf("uid %d/k", os.Getuid())
	if got := mem.stats[key]; string(got) != "by socket" {
		t.Errorf("what the socket's caller saved is not under %q: %v", key, mem.stats)
	}
}

func nodeOver(t *testing.T, children ...blocks.Block) blocks.Block {
	t.Helper()
	links := []dagcbor.Link{}
	for _, c := range children {
		links = append(links, dagcbor.Link{Cid: c.Cid()})
	}
	b, err := dagcbor.Encode(links)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestClaimOfACompleteRootIsCheckedToTheLeaves(t *testing.T) {
	leaves := blockstest.Random(1, 4, 100)
	left, right := nodeOver(t, leaves[:2]...), nodeOver(t, leaves[2:]...)
	top := nodeOver(t, left, right, left)
	all := append([]blocks.Block{left, right, top}, leaves...)
	for missing := -1; missing < len(all); missing++ {
		h, _ := storeHost(t)
		s := session(t, dial(t, serve(t, h, ServerOptions{})))
		for i, b := range all {
			if i == missing {
				continue
			}
			if err := s.Put(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		claim := []importer.StatRecord{{Key: []byte("k"), Value: []byte("v"), Roots: []cid.Cid{top.Cid()}}}
		err := s.SaveStat(t.Context(), claim)
		if missing >= 0 {
			if !errors.Is(err, snapshot.ErrNotFound) {
				t.Errorf("without block %d: %v, want not found", missing, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if yes, err := s.Adopt(t.Context(), []cid.Cid{top.Cid(), leaves[0].Cid(), right.Cid()}); err != nil || fmt.Sprint(yes) != "[true true false]" {
				t.Errorf("adopted %v, want the root that was saved and the leaf: %v", yes, err)
			}
		}
	}
}

func TestClaimEndsAtWhatIsProven(t *testing.T) {
	mem := newMemoryHost()
	s := session(t, dial(t, serve(t, mem.host(), ServerOptions{})))
	leaf := blockstest.Raw([]byte("leaf"))
	below := nodeOver(t, leaf)
	top := nodeOver(t, below)
	if err := s.Put(t.Context(), leaf, below, top); err != nil {
		t.Fatal(err)
	}
	save := func(root blocks.Block) error {
		return s.SaveStat(t.Context(), []importer.StatRecord{{Key: []byte("k"), Roots: []cid.Cid{root.Cid()}}})
	}
	if err := save(below); err != nil {
		t.Fatal(err)
	}
	// A walk that went on below would find this missing.
	mem.Delete(leaf.Cid())
	if err := save(top); err != nil {
		t.Error(err)
	}
}

func TestWhatReliesOnASessionIsRefusedOnceItHasEnded(t *testing.T) {
	mem := newMemoryHost()
	d := serve(t, mem.host(), ServerOptions{})
	h := dial(t, d)
	s := session(t, h)
	in := h.In(s)
	root := pinsettest.Root(1)
	does := map[string]func(h *Host) error{
		"pin":  func(h *Host) error { return h.Pins.Add(t.Context(), pinset.Pin{Root: root}) },
		"tag":  func(h *Host) error { return h.Tags.Tag(t.Context(), "t", root) },
		"mark": func(h *Host) error { return h.Origins.MarkOwn(t.Context(), root) },
	}
	for name, do := range does {
		if err := do(in); err != nil {
			t.Errorf("%s in a session that lasts: %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A client that has not heard of the end yet.
	late := &remoteSession{remoteBlocks: s.(*remoteSession).remoteBlocks, client: s.(*remoteSession).client}
	for name, do := range does {
		for _, over := range []Session{s, late} {
			if err := do(h.In(over)); !errors.Is(err, ErrSession) {
				t.Errorf("%s in a session that has ended: %v", name, err)
			}
		}
		if err := do(h); err != nil {
			t.Errorf("%s in no session: %v", name, err)
		}
	}
	if err := late.Sync(t.Context()); !errors.Is(err, ErrSession) {
		t.Errorf("sync in a session that has ended: %v", err)
	}
}

func TestSessionDoesNotEndWhileAPinRelyingOnItIsMade(t *testing.T) {
	mem := newMemoryHost()
	adding, goOn := make(chan struct{}), make(chan struct{})
	mem.pins = &slowPins{mem.pins, adding, goOn}
	h := dial(t, serve(t, mem.host(), ServerOptions{}))
	s := session(t, h)
	held := <-mem.begun
	added, ended := make(chan error), make(chan error)
	go func() { added <- h.In(s).Pins.Add(t.Context(), pinset.Pin{Root: pinsettest.Root(1)}) }()
	<-adding
	go func() { ended <- s.Close() }()
	// The request to end has arrived once the session is not found any more.
	for late := (&remoteSession{remoteBlocks: s.(*remoteSession).remoteBlocks, client: s.(*remoteSession).client}); ; {
		if _, err := late.Get(t.Context(), pinsettest.Root(1)); errors.Is(err, ErrSession) {
			break
		}
	}
	select {
	case <-held.closed:
		t.Error("the session ended under a pin that relies on it")
	default:
	}
	close(goOn)
	if err := <-added; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-held.closed
}

// Else a request that was just too late would wait for those that were in time, and who waits for it for ever.
func TestASessionThatIsToEndIsOverForWhoComesLater(t *testing.T) {
	mem := newMemoryHost()
	held, err := mem.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := &openSession{Session: held}
	release, err := x.hold()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- x.finish() }()
	for err == nil {
		var late func()
		if late, err = x.hold(); err == nil {
			late()
		}
	}
	if !errors.Is(err, ErrSession) {
		t.Errorf("got %v", err)
	}
	select {
	case <-held.(*memorySession).closed:
		t.Error("the session ended under who had it")
	default:
	}
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// slowPins tells when a pin is being added, and waits to be told to.
type slowPins struct {
	pinset.Set
	adding, goOn chan struct{}
}

func (p *slowPins) Add(ctx context.Context, pin pinset.Pin) error {
	close(p.adding)
	<-p.goOn
	return p.Set.Add(ctx, pin)
}
