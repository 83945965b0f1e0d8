//go:build real

package docker_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/volary/volary/volume/docker/dockertest"
)

// manyHere and manyElsewhere are how many volumes hosts have.
const (
	manyHere      = 500
	manyElsewhere = 500
)

// calls counts what an engine asks of its driver: it is between the two.
type calls struct {
	mu    sync.Mutex
	count map[string]int
}

// between has the engine's calls go through calls.
func between(t *testing.T, e *dockertest.Engine) *calls {
	t.Helper()
	const behind = "/run/docker/behind.sock"
	e.Do("mv", dockertest.Socket, behind)
	l, err := net.Listen("unix", e.Root()+dockertest.Socket)
	if err != nil {
		t.Fatal(err)
	}
	c := &calls{count: map[string]int{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "driver"})
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.Root()+behind)
	}}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.count[strings.TrimPrefix(r.URL.Path, "/VolumeDriver.")]++
		c.mu.Unlock()
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return c
}

// during returns what is asked while f runs.
func (c *calls) during(f func()) map[string]int {
	c.mu.Lock()
	c.count = map[string]int{}
	c.mu.Unlock()
	f()
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.count)
}

// createMany makes volumes by the engine's own API, a few at a time.
func createMany(t *testing.T, e *dockertest.Engine, prefix string, n int) (names []string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.Root()+"/run/docker/docker.sock")
	}}}
	defer client.CloseIdleConnections()
	next := make(chan string)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for name := range next {
				body := fmt.Sprintf(`{"Name":%q,"Driver":%q}`, name, dockertest.Driver)
				res, err := client.Post("http://engine/volumes/create", "application/json", strings.NewReader(body))
				if err != nil {
					t.Errorf("make %s: %v", name, err)
					continue
				}
				_ = res.Body.Close()
				if res.StatusCode != http.StatusCreated {
					t.Errorf("make %s: %s", name, res.Status)
				}
			}
		})
	}
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%03d", prefix, i))
		next <- names[i]
	}
	close(next)
	work.Wait()
	return names
}

func TestManyVolumesAreListedByOneQuestion(t *testing.T) {
	all := engines(t, "alpha", "beta")
	a, b := all[0], all[1]
	asked := between(t, a)
	names := slices.Concat(createMany(t, a, "here", manyHere), createMany(t, b, "there", manyElsewhere))
	a.UntilVolary("all are known", func(out string) bool { return len(strings.Fields(out)) == len(names) }, "volume", "ls", "-q")
	for _, c := range []struct {
		args  []string
		lists int
		lines []string // that are printed, sorted
	}{
		{[]string{"volume", "ls", "-q"}, 1, names},
		{[]string{"volume", "ls", "-q", "-f", "name=there-07"}, 1, names[manyHere+70 : manyHere+80]},
		{[]string{"volume", "ls", "-q", "-f", "driver=" + dockertest.Driver}, 1, names},
		{[]string{"volume", "inspect", "-f", "{{.Name}}", "here-077", "there-077"}, 0, []string{"here-077", "there-077"}},
		{[]string{"system", "df", "--format", "{{.Type}} {{.TotalCount}}"}, 0, []string{"Build Cache 0", "Containers 0", "Images 1", "Local Volumes 0"}},
		{[]string{"run", "--rm", "--network", "none", "-v", "there-077:/v", dockertest.Image, "echo", "ran"}, 0, []string{"ran"}},
	} {
		var out string
		began := time.Now()
		got := asked.during(func() { out = a.Docker(c.args...) })
		t.Logf("docker %s takes %s, and asks %v", strings.Join(c.args, " "), time.Since(began).Round(time.Millisecond), got)
		lines := strings.Split(out, "\n")
		slices.Sort(lines)
		if !slices.Equal(lines, c.lines) {
			t.Errorf("docker %s: %d lines, want %d: %q", strings.Join(c.args, " "), len(lines), len(c.lines), lines)
		}
		if got["List"] != c.lists {
			t.Errorf("docker %s asks %v", strings.Join(c.args, " "), got)
		}
	}
}
