//go:build real

package kubo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	dshelp "github.com/ipfs/boxo/datastore/dshelp"
	blocks "github.com/ipfs/go-block-format"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

// address is where a daemon listens.
func address(t *testing.T, d *kubotest.Daemon) string {
	t.Helper()
	api, err := d.API()
	if err != nil {
		t.Fatal(err)
	}
	a, err := ma.NewMultiaddr(api)
	if err != nil {
		t.Fatal(err)
	}
	_, addr, err := manet.DialArgs(a)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// each does everything once to a daemon that does not work, and returns the errors by what failed.
func each(t *testing.T, b *Blocks) map[string]error {
	t.Helper()
	bs := blockstest.Random(7, 3, 1000)
	errs := map[string]error{}
	errs["put"] = b.Put(t.Context(), bs...)
	_, errs["get"] = b.Get(t.Context(), bs[0].Cid())
	_, errs["has"] = b.Has(t.Context(), bs[0].Cid())
	_, errs["info"] = b.Info(t.Context())
	errs["keep"] = b.Keep(t.Context(), Keep{"host", "test", bs[0].Cid()})
	errs["session"] = b.Session().Put(t.Context(), bs...)
	for _, err := range snapshot.GetMany(t.Context(), b, bs[0].Cid(), bs[1].Cid(), bs[2].Cid()) {
		errs["get many"] = err
	}
	for _, err := range b.Kept(t.Context()) {
		errs["kept"] = err
	}
	return errs
}

func wantEach(t *testing.T, b *Blocks, want error) {
	t.Helper()
	for what, err := range each(t, b) {
		if !errors.Is(err, want) || !strings.Contains(err.Error(), b.Endpoint()) {
			t.Errorf("%s: got %v, want %v that names %s", what, err, want, b.Endpoint())
		}
	}
}

func works(t *testing.T, b snapshot.Blocks) {
	t.Helper()
	bs := blockstest.Random(8, 5, 3000)
	if err := b.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	i := 0
	for blk, err := range snapshot.GetMany(t.Context(), b, bs[0].Cid(), bs[1].Cid(), bs[2].Cid()) {
		if err != nil || string(blk.RawData()) != string(bs[i].RawData()) {
			t.Fatalf("block %d: %v", i, err)
		}
		i++
	}
}

func TestADaemonThatIsGoneIsNamed(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d)
	works(t, b)
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	wantEach(t, b, snapshot.ErrUnavailable)
}

func TestADaemonThatComesBackIsUsedAgain(t *testing.T) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := port.Addr().(*net.TCPAddr)
	port.Close()
	api, err := manet.FromNetAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	d := kubotest.Start(t, kubotest.Options{API: api.String()})
	b := open(t, d)
	works(t, b)
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	works(t, b)
}

func TestADaemonThatStallsEndsInAnError(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d, func(o *Options) { o.Timeout, o.LockTimeout = 300*time.Millisecond, 600*time.Millisecond })
	patient := open(t, d)
	works(t, patient)
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	wantEach(t, b, snapshot.ErrUnavailable)
	if err := d.Resume(); err != nil {
		t.Fatal(err)
	}
	works(t, patient)
}

func TestADaemonKilledInMidImportIsNoHalfSnapshot(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	for round := range 3 {
		x := open(t, d).Session()
		arrived := make(chan struct{})
		var once sync.Once
		failed := make(chan error, 1)
		go func() {
			for seed := uint64(0); ; seed++ {
				if err := x.Put(context.Background(), blockstest.Random(seed, 30, 300<<10)...); err != nil {
					failed <- err
					return
				}
				if seed == uint64(round) {
					once.Do(func() { close(arrived) })
				}
			}
		}()
		<-arrived
		if err := d.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, snapshot.ErrUnavailable) {
			t.Fatalf("put into a killed daemon: %v", err)
		}
		if err := x.Close(); err == nil {
			t.Error("the end of a session was told to a daemon that is not there")
		}
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := open(t, d)
		if _, err := b.ReleaseHeld(t.Context()); err != nil {
			t.Fatal(err)
		}
		again := b.Session()
		root := commit(t, again, 200)
		if err := b.Keep(t.Context(), Keep{"host", "test", root}); err != nil {
			t.Fatal(err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		gc(t, d)
		wantWhole(t, b, root)
	}
}

func TestWrongCredentialsAreDenied(t *testing.T) {
	scope := func(secret string) map[string]any {
		return map[string]any{"AuthSecret": secret, "AllowedPaths": []string{"/api/v0"}}
	}
	d := kubotest.Start(t, kubotest.Options{Config: map[string]any{"API.Authorizations": map[string]any{
		"one": scope("bearer:token"), "two": scope("basic:user:password"),
	}}})
	for name, o := range map[string]Options{
		"none": {}, "token": {Token: "guess"}, "password": {User: "user", Password: "guess"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, d, func(to *Options) { to.Token, to.User, to.Password = o.Token, o.User, o.Password })
			wantEach(t, b, ErrDenied)
		})
	}
	works(t, open(t, d, func(o *Options) { o.Token = "token" }))
	works(t, open(t, d, func(o *Options) { o.User, o.Password = "user", "password" }))
	inURL := open(t, d, func(o *Options) { o.Endpoint = "http://user:password@" + address(t, d) })
	works(t, inURL)
	if strings.Contains(inURL.Endpoint(), "password") {
		t.Fatalf("the endpoint is told with its password: %s", inURL.Endpoint())
	}
}

func TestUnixSocketsAndTLS(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	d := kubotest.Start(t, kubotest.Options{API: "/unix" + socket})
	works(t, open(t, d))
	works(t, open(t, d, func(o *Options) { o.Endpoint = "unix://" + socket }))

	to, err := url.Parse("http://kubo")
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: (&endpoint{socket: socket}).transport(nil),
	})
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	defer front.Close()
	roots := x509.NewCertPool()
	roots.AddCert(front.Certificate())
	works(t, open(t, d, func(o *Options) { o.Endpoint, o.TLS = front.URL, &tls.Config{RootCAs: roots} }))
	wantEach(t, open(t, d, func(o *Options) { o.Endpoint = front.URL }), snapshot.ErrUnavailable)
}

// proxy is a daemon whose answers break, as by [kubotest.Break].
func proxy(t *testing.T, to string, bytes int64, stall bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kubotest.Break(l, to, bytes, stall))
	return "http://" + l.Addr().String()
}

func TestAnAnswerThatIsCutIsNeverTakenForWhole(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	direct := open(t, d)
	bs := blockstest.Random(9, 6, 2000)
	if err := direct.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	for _, stall := range []bool{false, true} {
		for _, bytes := range []int64{0, 10, 200, 500, 700, 1500, 2500, 5000, 9000} {
			b := open(t, d, func(o *Options) {
				o.Endpoint = proxy(t, address(t, d), bytes, stall)
				o.Timeout, o.LockTimeout, o.FetchTimeout = 300*time.Millisecond, 300*time.Millisecond, time.Second
			})
			named := func(what string, err error) {
				t.Helper()
				if err != nil && (!strings.Contains(err.Error(), b.Endpoint()) || !errors.Is(err, snapshot.ErrUnavailable)) {
					t.Errorf("%s cut after %d bytes: %v", what, bytes, err)
				}
			}
			i := 0
			for blk, err := range b.GetMany(t.Context(), bs[0].Cid(), bs[1].Cid(), bs[2].Cid(), bs[3].Cid()) {
				if named("get many", err); err == nil && string(blk.RawData()) != string(bs[i].RawData()) {
					t.Fatalf("block %d is another one", i)
				}
				i++
			}
			has, err := b.Has(t.Context(), bs[0].Cid())
			if named("has", err); err == nil && !has[0] {
				t.Errorf("a block is taken for absent after %d bytes", bytes)
			}
			more := blockstest.Random(uint64(1000+bytes), 4, 500)
			err = b.Session().Put(t.Context(), more...)
			if named("put", err); err == nil {
				wantThere(t, direct, true, more...)
			}
		}
	}
}

func TestBytesThatAreNotTheBlockAreRefused(t *testing.T) {
	d := kubotest.Start(t, kubotest.Options{})
	b := open(t, d)
	bs := blockstest.Random(10, 3, 5000)
	if err := b.Put(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	damage(t, d.Repo, bs[1])
	i := 0
	for blk, err := range b.GetMany(t.Context(), bs[0].Cid(), bs[1].Cid(), bs[2].Cid()) {
		if i == 1 && !errors.Is(err, snapshot.ErrDamaged) {
			t.Fatalf("got %v, %v, want damaged", blk, err)
		}
		if i != 1 && err != nil {
			t.Fatal(err)
		}
		i++
	}
}

// damage changes a block's file in a daemon's repository.
func damage(t *testing.T, repo string, blk blocks.Block) {
	t.Helper()
	key := dshelp.MultihashToDsKey(blk.Cid().Hash()).String()[1:]
	name := filepath.Join(repo, "blocks", key[len(key)-3:len(key)-1], key+".data")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[100]++
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
