//go:build real

package kubo

import (
	"context"
	"testing"
	"time"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/blockstest"
	"github.com/volary/volary/snapshot/kubo/kubotest"
)

// open makes a client of a daemon, which asks nobody for what it lacks.
func open(t *testing.T, d *kubotest.Daemon, change ...func(*Options)) *Blocks {
	t.Helper()
	api, err := d.API()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Endpoint: api, Host: "host", Repo: d.Repo, Offline: true}
	for _, c := range change {
		c(&o)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func session(t *testing.T, b *Blocks) *Session {
	t.Helper()
	x := b.Session()
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func run(t *testing.T, d *kubotest.Daemon, args ...string) string {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	out, err := d.Run(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConformance(t *testing.T) {
	for name, profiles := range map[string][]string{"flatfs": nil, "pebble": {"pebbleds"}} {
		t.Run(name, func(t *testing.T) {
			d := kubotest.Start(t, kubotest.Options{Profiles: profiles})
			empty := func(t *testing.T) {
				t.Helper()
				run(t, d, "repo", "gc", "--quiet")
			}
			t.Run("blocks", func(t *testing.T) {
				blockstest.Run(t, func(t *testing.T) snapshot.Blocks { empty(t); return open(t, d) })
			})
			t.Run("session", func(t *testing.T) {
				blockstest.Run(t, func(t *testing.T) snapshot.Blocks { empty(t); return session(t, open(t, d)) })
			})
		})
	}
}
