package kubo

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestEndpoints(t *testing.T) {
	type want struct{ Name, URL, Socket, Authorization string }
	for in, w := range map[string]want{
		"http://127.0.0.1:5001":              {"http://127.0.0.1:5001", "http://127.0.0.1:5001", "", ""},
		"https://kubo.example/some/":         {"https://kubo.example/some/", "https://kubo.example/some", "", ""},
		"http://me:secret@kubo:5001":         {"http://kubo:5001", "http://kubo:5001", "", "Basic bWU6c2VjcmV0"},
		"unix:///run/ipfs.sock":              {"unix:///run/ipfs.sock", "http://unix", "/run/ipfs.sock", ""},
		"/ip4/127.0.0.1/tcp/5001":            {"/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001", "", ""},
		"/ip6/::1/tcp/5001":                  {"/ip6/::1/tcp/5001", "http://[::1]:5001", "", ""},
		"/dns4/kubo.example/tcp/443/https":   {"/dns4/kubo.example/tcp/443/https", "https://kubo.example:443", "", ""},
		"/dns/kubo.example/tcp/443/tls/http": {"/dns/kubo.example/tcp/443/tls/http", "https://kubo.example:443", "", ""},
		"/unix/run/ipfs.sock":                {"/unix/run/ipfs.sock", "http://unix", "/run/ipfs.sock", ""},
	} {
		e, err := parseEndpoint(Options{Endpoint: in})
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(w, want{e.name, e.url, e.socket, e.authorization}); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", in, diff)
		}
	}
}

func TestWhatIsNoEndpointIsRefusedWithoutItsPassword(t *testing.T) {
	for _, o := range []Options{
		{}, {Endpoint: "kubo:5001"}, {Endpoint: "ftp://me:secret@kubo"}, {Endpoint: "http://me:secret@kubo:port"},
		{Endpoint: "/ip4/127.0.0.1/udp/5001"}, {Endpoint: "/nothing"}, {Endpoint: "unix://"}, {Endpoint: "http://"},
		{Endpoint: "http://me:secret@kubo", Token: "secret"}, {Endpoint: "http://kubo", Token: "secret", User: "me"},
	} {
		_, err := New(o)
		if err == nil {
			t.Errorf("%+v: accepted", o)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error has the password: %v", err)
		}
	}
}

func TestBlocksAreReadUpToTheirMarks(t *testing.T) {
	mark := bytes.Repeat([]byte{7, 9}, markSize/2)
	parts := [][]byte{nil, {1}, bytes.Repeat([]byte{7}, 100), bytes.Repeat([]byte{7, 9, 3}, 70_000), mark[:markSize-1], nil}
	var all []byte
	for _, p := range parts {
		all = append(append(all, p...), mark...)
	}
	for name, in := range map[string]io.Reader{
		"at once": bytes.NewReader(all), "by bytes": iotest.OneByteReader(bytes.NewReader(all)),
		"by halves": iotest.HalfReader(bytes.NewReader(all)),
	} {
		r := bufio.NewReaderSize(in, 1<<10)
		for i, p := range parts {
			got, err := readUntil(r, mark, 1<<20)
			if err != nil || !bytes.Equal(got, p) {
				t.Fatalf("%s: part %d has %d bytes, want %d: %v", name, i, len(got), len(p), err)
			}
		}
		if _, err := readUntil(r, mark, 1<<20); err != io.EOF {
			t.Errorf("%s: after the last: %v", name, err)
		}
	}
	long := bufio.NewReader(bytes.NewReader(make([]byte, 1<<20)))
	if _, err := readUntil(long, mark, 1<<10); !errors.Is(err, errTooLong) {
		t.Errorf("without a mark: %v", err)
	}
}

func TestAnAnswerWithoutTheCountIsNotWhole(t *testing.T) {
	const root = `{"Root":{"Cid":{"/":"bafy"},"PinErrorMsg":""}}`
	for answer, good := range map[string]bool{
		`{"Stats":{"BlockCount":3,"BlockBytesCount":30}}`: true,
		root + "\n" + `{"Stats":{"BlockCount":3}}` + "\n": true,
		"": false, root: false, `{"Stats":{"BlockCount":2}}`: false, `{"Stats":{"Blo`: false,
		`{"Stats":{"BlockCount":3}}{`: false,
	} {
		if err := imported(strings.NewReader(answer), 3); (err == nil) != good {
			t.Errorf("%q: %v", answer, err)
		}
	}
}
