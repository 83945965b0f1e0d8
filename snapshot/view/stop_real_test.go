//go:build real

package view_test

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	tt "github.com/volary/volary/snapshot/tree/treetest"
	"github.com/volary/volary/snapshot/view"
)

func TestRealWhatCannotBeHadWhenAServerStopsIsLeftToTheNext(t *testing.T) {
	b := tt.NewMemory()
	c := tt.Commit(t, b, tt.Dir(map[string]tt.Node{"f": tt.File("content"), "other": tt.File("else")}))
	leaf, err := open(t, b, c).Lookup(ctx, "f")
	must(t, err)
	dir := t.TempDir()
	guard(t, dir)
	s := tt.NewStalled(b, leaf.CID)
	srv, err := view.Mount(ctx, open(t, s, c), dir, view.Options{IOTimeout: time.Hour})
	must(t, err)
	t.Cleanup(func() { must(t, view.Unmount(dir)) })
	type read struct {
		text []byte
		err  error
	}
	got := make(chan read, 1)
	go func() {
		text, err := os.ReadFile(dir + "/f")
		got <- read{text, err}
	}()
	<-s.Asked
	conn := view.Connection{Device: dup(t, srv.Connection().Device), Table: dup(t, srv.Connection().Table), Init: srv.Connection().Init}
	began := time.Now()
	srv.Stop()
	if took := time.Since(began); took < view.StopPatience || took > view.StopPatience+30*time.Second {
		t.Errorf("stopped after %v", took)
	}
	select {
	case r := <-got:
		t.Errorf("answered without a server: %q, %v", r.text, r.err)
	default:
	}
	_, err = view.Resume(ctx, open(t, b, c), conn, view.Options{})
	must(t, err)
	if r := <-got; r.err != nil || string(r.text) != "content" {
		t.Errorf("read %q, %v", r.text, r.err)
	}
	must(t, unix.Access(dir+"/other", unix.R_OK))
}

func TestRealAStateThatCannotBeHadWhenAServerStopsIsLeftToTheNext(t *testing.T) {
	b := tt.NewMemory()
	first, second := state(t, b, 0), state(t, b, 1)
	f := follow(t, b, first)
	file, err := os.Open(f.dir + "/d/a")
	must(t, err)
	f.show(second)
	next := func(b snapshot.Blocks, o view.Options) {
		c := f.srv.Connection()
		c.Device, c.Table = dup(t, c.Device), dup(t, c.Table)
		began := time.Now()
		f.srv.Stop()
		if took := time.Since(began); took > view.StopPatience+30*time.Second {
			t.Errorf("stopped after %v", took)
		}
		f.srv, err = view.Resume(ctx, open(t, b, second), c, o)
		must(t, err)
	}
	stuck := tt.NewStalled(b, first)
	patient := f.options()
	patient.IOTimeout = time.Hour
	next(stuck, patient)
	got := make(chan string, 1)
	go func() {
		text, err := io.ReadAll(file)
		got <- fmt.Sprint(string(text), err)
	}()
	<-stuck.Asked
	next(b, f.options())
	if text := <-got; text != "0<nil>" {
		t.Errorf("read %s", text)
	}
	must(t, file.Close())
}
