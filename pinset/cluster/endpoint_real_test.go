//go:build real

package cluster_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/cluster"
	"github.com/volary/volary/pinset/cluster/clustertest"
)

// raw is a pin as the REST API has it.
type raw struct {
	Name                string
	Allocations         []string
	Origins             []string
	Timestamp, ExpireAt time.Time
}

// rawPin asks a peer, by no client of ours or the cluster's.
func rawPin(t *testing.T, n *clustertest.Node, root cid.Cid) raw {
	t.Helper()
	var pin struct {
		raw
		ExpireAt time.Time `json:"expire_at"`
	}
	until(t, n.Name+" knows "+root.String(), func() bool {
		resp, err := http.Get(n.REST() + "/allocations/" + root.String())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&pin) == nil
	})
	pin.raw.ExpireAt = pin.ExpireAt
	return pin.raw
}

// tries is one call of each kind that asks the cluster.
func tries(t *testing.T, s *cluster.Set) map[string]error {
	root := stored(t, three.Nodes[0])
	_, statusErr := s.Status(t.Context(), root)
	var listErr error
	for _, err := range s.All(t.Context()) {
		listErr = errors.Join(listErr, err)
	}
	_, peersErr := s.Peers(t.Context())
	_, recoverErr := s.Recover(t.Context(), root)
	return map[string]error{
		"add": s.Add(t.Context(), pinset.Pin{Root: root}), "remove": s.Remove(t.Context(), root, ""), "status": statusErr,
		"list": listErr, "peers": peersErr, "recover": recoverErr,
	}
}

func TestWrongCredentialsAreToldAndRightOnesTaken(t *testing.T) {
	locked, err := clustertest.Start(t.Context(), clustertest.Options{Dir: t.TempDir(), Peers: 1, Subnet: 1, User: "u", Password: "p/:@ ß"})
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Close()
	address := locked.Nodes[0].REST()
	for _, o := range []cluster.Options{{}, {User: "u", Password: "wrong"}} {
		o.Endpoints = []string{address}
		for call, err := range tries(t, fresh(t, o)) {
			t.Log(call, err)
			wantError(t, err, cluster.ErrUnauthorized, address)
		}
	}
	inURL := (&url.URL{Scheme: "http", User: url.UserPassword("u", "p/:@ ß"), Host: strings.TrimPrefix(address, "http://")}).String()
	for _, o := range []cluster.Options{{Endpoints: []string{address}, User: "u", Password: "p/:@ ß"}, {Endpoints: []string{inURL}}} {
		for call, err := range tries(t, fresh(t, o)) {
			if err != nil {
				t.Errorf("%s: %v", call, err)
			}
		}
	}
	wrong := strings.Replace(inURL, "u:", "other:", 1)
	_, err = fresh(t, cluster.Options{Endpoints: []string{wrong}}).Peers(t.Context())
	wantError(t, err, cluster.ErrUnauthorized, "other:xxxxx@")
}

func TestARefusedConnectionNamesEachEndpoint(t *testing.T) {
	nobody, noOne := "http://127.0.0.1:9", "http://127.0.0.2:9"
	for _, err := range tries(t, fresh(t, cluster.Options{Endpoints: []string{nobody}})) {
		wantError(t, err, pinset.ErrUnavailable, nobody, "refused")
	}
	for _, err := range tries(t, fresh(t, cluster.Options{Endpoints: []string{nobody, noOne}})) {
		wantError(t, err, pinset.ErrUnavailable, nobody, noOne)
	}
	for call, err := range tries(t, fresh(t, cluster.Options{Endpoints: []string{nobody, three.Nodes[0].REST()}})) {
		if err != nil {
			t.Errorf("%s: %v, the second endpoint works", call, err)
		}
	}
}

// proxy stands before the first peer and does something to what it answers.
func proxy(t *testing.T, to func(*http.Response) error) *httptest.Server {
	t.Helper()
	target, err := url.Parse(three.Nodes[0].REST())
	if err != nil {
		t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(target)
	p.FlushInterval = -1
	p.ModifyResponse = to
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// cut is a body of which only the first bytes come, and then an error or, if hold is there, nothing until it closes.
type cut struct {
	io.Reader
	io.Closer
	hold <-chan struct{}
}

func (c cut) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF {
		if c.hold != nil {
			<-c.hold
		}
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// pinsFor makes a namespace with some pins in it.
func pinsFor(t *testing.T, n int) (namespace string) {
	s := fresh(t, cluster.Options{})
	for range n {
		place(t, s, pinset.Pin{Root: stored(t, three.Nodes[0])}, cluster.Placement{Min: 1, Max: 1})
	}
	return s.Namespace()
}

func count(t *testing.T, s *cluster.Set) (n int, err error) {
	for _, err = range s.All(t.Context()) {
		if err == nil {
			n++
		}
	}
	return n, err
}

func TestAProxyThatTruncatesMakesNoHalfList(t *testing.T) {
	namespace := pinsFor(t, 5)
	truncating := proxy(t, func(r *http.Response) error {
		body := r.Body
		r.Body = cut{io.LimitReader(body, 700), body, nil}
		return nil
	})
	s := fresh(t, cluster.Options{Namespace: namespace, Endpoints: []string{truncating.URL}})
	n, err := count(t, s)
	wantError(t, err, pinset.ErrUnavailable, truncating.URL)
	if n != 0 {
		t.Errorf("%d pins were listed before the error", n)
	}
	s = fresh(t, cluster.Options{Namespace: namespace, Endpoints: []string{truncating.URL, three.Nodes[0].REST()}})
	if n, err := count(t, s); err != nil || n != 5 {
		t.Errorf("with a second endpoint: %d pins, %v", n, err)
	}
}

func TestAProxyThatTruncatesAnAnswerLeavesNoHalfPin(t *testing.T) {
	truncating := proxy(t, func(r *http.Response) error {
		body := r.Body
		r.Body = cut{io.LimitReader(body, 20), body, nil}
		return nil
	})
	root := stored(t, three.Nodes[0])
	p := pinset.Pin{Root: root, Name: "whole", Meta: map[string]string{"k": "v"}}
	s := fresh(t, cluster.Options{Endpoints: []string{truncating.URL}})
	wantError(t, s.Add(t.Context(), p), pinset.ErrUnavailable, truncating.URL)
	s = fresh(t, cluster.Options{Namespace: s.Namespace(), Endpoints: []string{truncating.URL, three.Nodes[0].REST()}})
	place(t, s, p, cluster.Placement{})
	if st := wait(t, s, root, cluster.WaitOptions{}); st.Pins[0].Name != "whole" || st.Pins[0].Meta["k"] != "v" {
		t.Errorf("%+v", st.Pins)
	}
}

func TestAProxyThatStallsIsGivenUp(t *testing.T) {
	namespace := pinsFor(t, 3)
	hold := make(chan struct{})
	stalling := proxy(t, func(r *http.Response) error {
		body := r.Body
		r.Body = cut{io.LimitReader(body, 20), body, hold}
		return nil
	})
	t.Cleanup(func() { close(hold) })
	s := fresh(t, cluster.Options{Namespace: namespace, Timeout: 300 * time.Millisecond, Endpoints: []string{stalling.URL}})
	for call, err := range tries(t, s) {
		t.Log(call, err)
		wantError(t, err, pinset.ErrUnavailable, stalling.URL, "300ms")
	}
	s = fresh(t, cluster.Options{Namespace: namespace, Timeout: 6 * time.Second, Endpoints: []string{stalling.URL, three.Nodes[0].REST()}})
	if n, err := count(t, s); err != nil || n != 3 {
		t.Errorf("with a second endpoint: %d pins, %v", n, err)
	}
}

func TestTLSIsCheckedUnlessToldOtherwise(t *testing.T) {
	target, err := url.Parse(three.Nodes[0].REST())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(target))
	server.Listener.Close()
	server.Listener = listener
	server.StartTLS()
	defer server.Close()
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(trusted, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", trusted)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// The certificate is for the first of these addresses only.
	for address, o := range map[string]cluster.Options{"127.0.0.1": {}, "127.0.0.2": {Insecure: true}} {
		o.Endpoints = []string{"https://" + address + ":" + port}
		for call, err := range tries(t, fresh(t, o)) {
			if err != nil {
				t.Errorf("%s at %s: %v", call, address, err)
			}
		}
	}
	other := "https://127.0.0.2:" + port
	for _, err := range tries(t, fresh(t, cluster.Options{Endpoints: []string{other}})) {
		wantError(t, err, pinset.ErrUnavailable, other, "certificate")
	}
}
