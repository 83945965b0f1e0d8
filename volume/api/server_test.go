package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
)

func newTestBlock(t *testing.T, data []byte, c cid.Cid) blocks.Block {
	t.Helper()
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func withUser(ctx context.Context, uid uint32) context.Context {
	return context.WithValue(ctx, peerKey{}, Peer{UID: uid})
}

func cancelable(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// speaking is a daemon that names another version.
func speaking(t *testing.T, version int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"api":%d,"version":"v0"}`, version)
	})}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return path
}

func TestDaemonOfAnotherVersionIsRefusedAndTheOlderSideNamed(t *testing.T) {
	for version, want := range map[int]string{Version + 1: "upgrade this program", Version - 1: "is no volary daemon", -1: "upgrade the daemon"} {
		_, err := Dial(t.Context(), speaking(t, version), DialOptions{})
		if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), want) {
			t.Errorf("version %d: %v, want %q", version, err, want)
		}
	}
}

func TestClientOfAnotherVersionIsRefusedAndTheOlderSideNamed(t *testing.T) {
	d := serve(t, newMemoryHost().host(), ServerOptions{Version: "v3"})
	for version, want := range map[string]string{"2": "upgrade the daemon", "0": "upgrade the client", "x": "no number"} {
		status, body := raw(t, d, "GET", "/v1/status", "", versionHeader, version)
		if status != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("version %s: %d %s", version, status, body)
		}
		if status, body := raw(t, d, "GET", "/version", "", versionHeader, version); status != 200 || body != "{\"api\":1,\"version\":\"v3\"}\n" {
			t.Errorf("asking for the version: %d %s", status, body)
		}
	}
	if status, body := raw(t, d, "GET", "/v2/status", ""); status != http.StatusBadRequest || !strings.Contains(body, "not in version 1") {
		t.Errorf("another path: %d %s", status, body)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	d := serve(t, newMemoryHost().host(), ServerOptions{})
	good := blockstest.Raw([]byte("x"))
	many := strings.Repeat(string(appendCID(nil, blockstest.Raw(nil).Cid())), maxCIDs+1)
	frame := string(append(appendHeader(nil, good), 'x'))
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/blocks/nonsense", "", 400, "nonsense"},
		{"GET", "/v1/blocks/" + strings.Repeat("b", 10000), "", 413, "10000"},
		{"GET", "/v1/blocks/" + good.Cid().String(), "", 404, "not found"},
		{"HEAD", "/v1/blocks/" + good.Cid().String(), "", 404, ""},
		{"POST", "/v1/blocks", frame[:len(frame)-1], 400, "ends within"},
		{"POST", "/v1/blocks", frame[:len(frame)-1] + "y", 400, "not those the CID names"},
		{"POST", "/v1/blocks", "\x81\x00", 400, "shortest"},
		{"POST", "/v1/blocks", string(appendUvarint(nil, maxCIDSize+1)), 413, "CID of 2049 bytes"},
		{"POST", "/v1/blocks", string(appendUvarint(appendCID(nil, good.Cid()), snapshot.MaxBlockSize+1)), 413, "2097153 bytes"},
		{"POST", "/v1/blocks/has", many, 413, "more than 8192"},
		{"POST", "/v1/blocks/has", strings.Repeat("x", maxCIDBytes+1), 413, "at most"},
		{"POST", "/v1/blocks/get", many, 413, "more than 8192"},
		{"POST", "/v1/blocks/get", strings.Repeat("x", maxCIDBytes+1), 413, "at most"},
		{"POST", "/v1/blocks/get", "\x05abc", 400, "ends within"},
		{"POST", "/v1/blocks/get", "\x03abc", 400, "CID 616263"},
		{"PUT", "/v1/pins/" + good.Cid().String(), strings.Repeat(" ", maxJSON+1), 413, "1048576"},
		{"PUT", "/v1/pins/" + good.Cid().String(), `{"nonsense":1}`, 400, "nonsense"},
		{"PUT", "/v1/pins/" + good.Cid().String(), `{} {}`, 400, "follows"},
		{"PUT", "/v1/pins/" + good.Cid().String(), `{"root":"other"}`, 400, "other"},
		{"PUT", "/v1/tags?root=" + good.Cid().String(), "", 400, "name"},
		{"POST", "/v1/stat/load", "k", 400, sessionHeader},
		{"POST", "/v1/collect?dry_run=perhaps", "", 400, "dry_run"},
		{"DELETE", "/v1/sessions/nonsense", "", 410, "session has ended"},
		{"PATCH", "/v1/status", "", 400, "PATCH"},
	} {
		status, body := raw(t, d, tc.method, tc.path, tc.body)
		if status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s %.60s: %d %s; want %d, %q", tc.method, tc.path, status, body, tc.status, tc.want)
		}
		var j errorJSON
		if err := json.Unmarshal([]byte(body), &j); tc.method != "HEAD" && (err != nil || j.Kind == "" || j.Message == "") {
			t.Errorf("%s %.60s: %s is no error object: %v", tc.method, tc.path, body, err)
		}
	}
	if status, body := raw(t, d, "POST", "/v1/blocks", frame, sessionHeader, "unknown"); status != 410 || !strings.Contains(body, "session has ended") {
		t.Errorf("an unknown session: %d %s", status, body)
	}
	status, body := raw(t, d, "POST", "/v1/blocks", frame)
	if status != 204 {
		t.Errorf("the good frame: %d %s", status, body)
	}
}

func TestCallerWhoStallsIsCutOff(t *testing.T) {
	d := serve(t, newMemoryHost().host(), ServerOptions{StallTimeout: 50 * time.Millisecond})
	for name, head := range map[string]string{
		"body of blocks":     "POST /v1/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
		"body nobody needs":  "GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
		"body of a bad path": "POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
	} {
		c, err := net.Dial("unix", d.path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, head); err != nil {
			t.Fatal(err)
		}
		// The connection ends, whatever was answered before.
		if answer, err := io.ReadAll(c); err != nil {
			t.Errorf("%s: %q, then %v", name, answer, err)
		}
		c.Close()
	}
}

func TestCallerWhoDoesNotReadIsCutOff(t *testing.T) {
	mem := newMemoryHost()
	big := blockstest.Random(1, 1, snapshot.MaxBlockSize)[0]
	if err := mem.Put(t.Context(), big); err != nil {
		t.Fatal(err)
	}
	d := serve(t, mem.host(), ServerOptions{StallTimeout: 500 * time.Millisecond})
	list := strings.Repeat(string(appendCID(nil, big.Cid())), 10)
	// More requests than there are turns for one user: the last are answered if the first are given up.
	for range maxTransfers {
		for _, request := range []string{
			fmt.Sprintf("GET /v1/blocks/%s HTTP/1.1\r\nHost: x\r\n\r\n", big.Cid()),
			fmt.Sprintf("POST /v1/blocks/get HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(list), list),
		} {
			c, err := net.Dial("unix", d.path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, request)
		}
	}
	if _, err := dial(t, d).Blocks.Get(t.Context(), big.Cid()); err != nil {
		t.Error(err)
	}
}

func TestMoreConnectionsThanAUserMayHaveAreRefused(t *testing.T) {
	d := serve(t, newMemoryHost().host(), ServerOptions{})
	who := d.server.callers.of(uint32(os.Getuid()))
	who.mu.Lock()
	who.conns += maxConns
	who.mu.Unlock()
	c, err := net.Dial("unix", d.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != http.StatusTooManyRequests {
		t.Fatalf("got %v, %v", res, err)
	}
	who.mu.Lock()
	who.conns -= maxConns
	who.mu.Unlock()
	if _, err := dial(t, d).Upkeep.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhoChangesSomethingIsLogged(t *testing.T) {
	var log logBuffer
	h := dial(t, serve(t, newMemoryHost().host(), ServerOptions{Logger: log.logger()}))
	root := pinsettest.Root(1)
	ctx := t.Context()
	for _, change := range []struct {
		log string
		do  func() error
	}{
		{"tagged", func() error { return h.Tags.Tag(ctx, "t", root) }},
		{"untagged", func() error { return h.Tags.Untag(ctx, "t") }},
		{"unpinned", func() error { return h.Pins.Remove(ctx, root, "") }},
		{"marked as made here", func() error { return h.Origins.MarkOwn(ctx, root) }},
		{"block dropped", func() error { return h.Upkeep.Drop(ctx, root) }},
		{"collection done", func() error { _, err := h.Upkeep.Collect(ctx, false); return err }},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		who := fmt.Sprintf("uid=%d pid=%d\n", os.Getuid(), os.Getpid())
		said := false
		for line := range strings.Lines(log.String()) {
			said = said || strings.Contains(line, change.log) && strings.HasSuffix(line, who)
		}
		if !said {
			t.Errorf("%q by %q is not in the log:\n%s", change.log, who, log.String())
		}
	}
}

func TestCallerWhoIsNotKnownIsRefused(t *testing.T) {
	s, err := NewServer(newMemoryHost().host(), ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := cancelable(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if answer, _ := io.ReadAll(c); len(answer) > 0 {
		t.Errorf("over TCP: %q", answer)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestCurlReadsBlocksPinsStatusAndMetrics(t *testing.T) {
	mem := newMemoryHost()
	d := serve(t, mem.host(), ServerOptions{Version: "v7"})
	h := dial(t, d)
	block := blockstest.Raw([]byte("hello"))
	if err := h.Blocks.Put(t.Context(), block); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Blocks.Get(t.Context(), block.Cid()); err != nil {
		t.Fatal(err)
	}
	session(t, h)
	curl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("curl", append([]string{"-sS", "--fail-with-body", "--unix-socket", d.path}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("curl %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	if got := curl("http://x/v1/blocks/" + block.Cid().String()); got != "hello" {
		t.Errorf("block: %q", got)
	}
	curl("-X", "PUT", "-d", `{"name":"n"}`, "http://x/v1/pins/"+block.Cid().String())
	if got := curl("http://x/v1/pins"); !strings.Contains(got, block.Cid().String()) || !strings.Contains(got, `"name":"n"`) {
		t.Errorf("pins: %s", got)
	}
	if got := curl("http://x/v1/status"); !strings.Contains(got, `"daemon":true`) {
		t.Errorf("status: %s", got)
	}
	got := curl("http://x/metrics")
	for _, want := range []string{
		"volary_api_put_blocks_total 1", "volary_api_put_bytes_total 5", "volary_api_got_blocks_total 2", "volary_api_got_bytes_total 10",
		"volary_api_sessions_open 1", "volary_api_pins_added_total 1", "volary_collections_total 0", "volary_pins 7", "volary_store_blocks 1",
		`volary_build_info{api="1",go="go`, `version="v7"} 1`, `route="GET /v1/blocks/{cid}"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}
