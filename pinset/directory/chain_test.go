package directory_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset/directory"
	"github.com/volary/volary/pinset/outbox"
	"github.com/volary/volary/pinset/pinsettest"
)

// What a host records goes through its outbox into the pins, and from there to a host that has nothing but a token.
func TestAHostWithATokenAloneFindsEveryVolumeInThePins(t *testing.T) {
	ctx := t.Context()
	pins := pinsettest.NewMemory()
	n := open(t, 1)
	writer := must(table.Open(filepath.Join(t.TempDir(), "heads.db"), nil))(t)
	defer writer.Close()
	for i := range 5 {
		name := fmt.Sprint("v", i)
		key, generation, err := writer.NewKey(n, name)
		if err != nil {
			t.Fatal(err)
		}
		prev := cid.Undef
		for sequence := uint64(1); sequence <= 3; sequence++ {
			e := volume{n, key}.entry(t, name, generation, 0, sequence)
			if err := writer.Advance(ctx, prev, e.Head, &e.Binding); err != nil {
				t.Fatal(err)
			}
			prev = e.Head.Commit
		}
	}

	q := must(outbox.Open(filepath.Join(t.TempDir(), "outbox.db"), outbox.Options{Set: pins}))(t)
	defer q.Close()
	for _, v := range must(writer.Unsent())(t) {
		pin := must(directory.Pin(n, directory.Entry{Head: v.Head, Binding: v.Binding}))(t)
		if err := q.Put(ctx, outbox.Entry{Op: outbox.Pin, Pin: pin, Group: v.Key.String()}); err != nil {
			t.Fatal(err)
		}
		if err := writer.Sent(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if left := must(writer.Unsent())(t); len(left) > 0 {
		t.Errorf("unsent: %+v", left)
	}

	token := must(n.Token(namespace.Swarm{Mode: namespace.SwarmNone}, false))(t)
	joined, _, err := namespace.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	reader := must(table.Open(filepath.Join(t.TempDir(), "heads.db"), nil))(t)
	defer reader.Close()
	d := must(directory.List(joined, pins.All(ctx)))(t)
	var news table.News
	for _, v := range d.Volumes {
		news.Heads, news.Bindings = append(news.Heads, v.Head), append(news.Bindings, v.Binding)
	}
	must(reader.Learn(ctx, news))(t)
	for i := range 5 {
		name := fmt.Sprint("v", i)
		got, want := must(reader.Named(name))(t), must(writer.Named(name))(t)
		if got.Head.Commit != want.Head.Commit || got.Head.Sequence != 3 {
			t.Errorf("%s is at %s, want %s", name, got.Head.Commit, want.Head.Commit)
		}
		if _, err := joined.Key(got.Binding); err != nil {
			t.Errorf("key of %s: %v", name, err)
		}
	}
}
