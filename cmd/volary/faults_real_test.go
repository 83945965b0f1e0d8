//go:build real

package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	dshelp "github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/volary/volary/pinset/cluster/clustertest"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

// proxyCommand is proxy NAME cut|stall BYTES kubo|cluster N, or proxy NAME collect kubo N. It sets NAME to the URL of a
// proxy before a server. One that cuts ends each connection after so many bytes of answers, one that stalls says
// nothing from there; one that collects has the daemon collect before every second time that
// it is to pin.
func proxyCommand(c *clustertest.Cluster) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 4 {
			ts.Fatalf("usage: proxy NAME cut|stall BYTES kubo|cluster N, proxy NAME collect kubo N")
		}
		n := nodeOf(ts, c, args[len(args)-1])
		if args[1] == "collect" {
			s := httptest.NewServer(collecting(n))
			ts.Defer(s.Close)
			ts.Setenv(args[0], s.URL)
			return
		}
		bytes, err := strconv.ParseInt(args[2], 10, 64)
		ts.Check(err)
		to := map[string]string{"kubo": n.RPCURL(), "cluster": n.REST()}[args[3]]
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Defer(kubotest.Break(l, strings.TrimPrefix(to, "http://"), bytes, args[1] == "stall"))
		ts.Setenv(args[0], "http://"+l.Addr().String())
	}
}

// collecting is a proxy before a Kubo daemon. It does not collect each time: nobody could pin anything then.
func collecting(n *clustertest.Node) http.Handler {
	to, _ := url.Parse(n.RPCURL())
	var asked atomic.Int64
	pass := httputil.NewSingleHostReverseProxy(to)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (strings.HasSuffix(r.URL.Path, "/pin/add") || strings.HasSuffix(r.URL.Path, "/pin/update")) && asked.Add(1)%2 == 1 {
			out, err := exec.CommandContext(r.Context(), "ipfs", "--api", n.RPC(), "repo", "gc", "-q").CombinedOutput()
			if err != nil {
				http.Error(w, string(out), http.StatusInternalServerError)
				return
			}
		}
		pass.ServeHTTP(w, r)
	})
}

// damageCommand is damage N CID: a bit of that block changes in the files of the Kubo daemon.
func damageCommand(c *clustertest.Cluster) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: damage N CID")
		}
		id, err := cid.Decode(args[1])
		ts.Check(err)
		key := dshelp.MultihashToDsKey(id.Hash()).String()[1:]
		name := filepath.Join(nodeOf(ts, c, args[0]).Dir, "kubo", "blocks", key[len(key)-3:len(key)-1], key+".data")
		data, err := os.ReadFile(name)
		ts.Check(err)
		data[len(data)/2] ^= 1
		ts.Check(os.WriteFile(name, data, 0o644))
	}
}
