package trustless_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ipfs/boxo/ipns"

	"github.com/volary/volary/p2p/trustless"
	"github.com/volary/volary/snapshot/blockstest"
)

const (
	published = "k51qzi5uqu5dh0f4x94uz2ulk1l37wgtdszszbyljipi4x95x2o1jwhdapkil5"
	broken    = "k51qzi5uqu5dh3ks0udzfcs6kju9z9n0f2so8fzr233baydgp7qo41kjrt5t37"
	unknown   = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
)

func serveRecords(t *testing.T) string {
	t.Helper()
	h, err := trustless.Handler(blockstest.NewMemory(), func(_ context.Context, name ipns.Name) ([]byte, error) {
		switch name.String() {
		case published:
			return []byte("record"), nil
		case broken:
			return nil, errors.New("secret of the state")
		}
		return nil, fmt.Errorf("not here: %w", fs.ErrNotExist)
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestRecordsAreServed(t *testing.T) {
	url := serveRecords(t)
	for path, want := range map[string]int{
		"/ipns/" + published + "?format=ipns-record": http.StatusOK,
		"/ipns/" + unknown + "?format=ipns-record":   http.StatusNotFound,
		"/ipns/" + broken + "?format=ipns-record":    http.StatusInternalServerError,
		"/ipns/example.net?format=ipns-record":       http.StatusBadRequest,
		"/ipns/" + published:                         http.StatusNotAcceptable,
		"/ipns/" + published + "?format=raw":         http.StatusNotAcceptable,
		"/ipns/" + published + "/a":                  http.StatusNotFound,
	} {
		code, body := get(t, url+path)
		if code != want || bytes.Contains(body, []byte("secret")) || code == http.StatusOK && string(body) != "record" {
			t.Errorf("%s: %d, want %d: %.200s", path, code, want, body)
		}
	}
}

func TestARecordThatIsKnownIsNotSentAgain(t *testing.T) {
	url := serveRecords(t) + "/ipns/" + published
	ask := func(method, etag string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "application/vnd.ipfs.ipns-record")
		req.Header.Set("If-None-Match", etag)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	first := ask(http.MethodGet, "")
	if first.StatusCode != http.StatusOK || first.Header.Get("Content-Type") != "application/vnd.ipfs.ipns-record" || first.Header.Get("Cache-Control") != "public, max-age=60" {
		t.Errorf("%s %v", first.Status, first.Header)
	}
	if again := ask(http.MethodGet, first.Header.Get("Etag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("known: %s", again.Status)
	}
	if head := ask(http.MethodHead, ""); head.StatusCode != http.StatusOK || head.ContentLength != 6 {
		t.Errorf("HEAD: %s, %d bytes", head.Status, head.ContentLength)
	}
	if post := ask(http.MethodPost, ""); post.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", post.Status)
	}
}
