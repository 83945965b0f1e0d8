package directory_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/volary/volary/head"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/pinset/directory"
	"github.com/volary/volary/pinset/pinsettest"
	"github.com/volary/volary/snapshot/dagcbor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var made = time.Date(2026, 11, 22, 10, 11, 12, 0, time.UTC)

// must returns v unless err says that there is none.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func open(t testing.TB, secret byte) *namespace.Namespace {
	return must(namespace.Open(namespace.Secret{secret}))(t)
}

func commit(t testing.TB, text string) cid.Cid { return must(dagcbor.Encode(text))(t).Cid() }

// volume makes pins of one volume.
type volume struct {
	n   *namespace.Namespace
	key crypto.PrivKey
}

func newVolume(t testing.TB, n *namespace.Namespace, name string, generation uint64) volume {
	return volume{n, must(n.DeriveKey(name, generation))(t)}
}

func (v volume) entry(t testing.TB, name string, generation, life, sequence uint64) directory.Entry {
	t.Helper()
	root := commit(t, fmt.Sprint(must(namespace.NameOf(v.key))(t), sequence))
	return directory.Entry{
		Head:    must(head.Sign(v.key, root, sequence, made))(t),
		Binding: must(v.n.Bind(name, v.key, generation, life))(t),
	}
}

func (v volume) pin(t testing.TB, name string, generation, life, sequence uint64) pinset.Pin {
	t.Helper()
	return must(directory.Pin(v.n, v.entry(t, name, generation, life, sequence)))(t)
}

func seq(pins []pinset.Pin) iter.Seq2[pinset.Pin, error] {
	return func(yield func(pinset.Pin, error) bool) {
		for _, p := range pins {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// show tells the volumes of a directory in few words.
func show(d directory.Directory) (lines []string) {
	for _, v := range d.Volumes {
		line := fmt.Sprintf("%s@%d of %d", v.Binding.Name, v.Head.Sequence, v.Heads)
		if v.Removed {
			line += " removed"
		}
		if !v.Named {
			line += " unnamed"
		}
		lines = append(lines, line)
	}
	return lines
}

func TestPinEqualsTheGoldenFile(t *testing.T) {
	n := open(t, 1)
	p := newVolume(t, n, "data", 1).pin(t, "data", 1, 0, 3)
	got := must(json.MarshalIndent(map[string]any{"root": p.Root.String(), "owner": p.Owner, "name": p.Name, "meta": p.Meta}, "", "  "))(t)
	file := filepath.Join("testdata", "golden", "pin.json")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := must(os.ReadFile(file))(t); string(want) != string(got) {
		t.Errorf("a published format has changed:\n got %s\nwant %s", got, want)
	}
}

func TestEveryHostFindsTheVolumesWhateverTheOrderOfThePins(t *testing.T) {
	n := open(t, 1)
	data, logs, gone := newVolume(t, n, "data", 1), newVolume(t, n, "logs", 1), newVolume(t, n, "gone", 1)
	again := newVolume(t, n, "logs", 2)
	pins := []pinset.Pin{
		data.pin(t, "data", 1, 0, 1), data.pin(t, "data", 1, 0, 10), data.pin(t, "data", 1, 0, 9),
		logs.pin(t, "logs", 1, 0, 1), logs.pin(t, "archive", 2, 0, 2), // renamed
		again.pin(t, "logs", 2, 0, 1), // and the name given to another
		gone.pin(t, "gone", 2, 1, 3), gone.pin(t, "gone", 1, 0, 2), gone.pin(t, "gone", 1, 0, 4),
	}
	want := []string{"archive@2 of 2", "data@10 of 3", "gone@4 of 3 removed unnamed", "logs@1 of 1"}
	reader := must(namespace.OpenReadOnly(n.PublicKey()))(t)
	for range 20 {
		rand.Shuffle(len(pins), func(i, j int) { pins[i], pins[j] = pins[j], pins[i] })
		d := must(directory.List(reader, seq(pins)))(t)
		if diff := cmp.Diff(want, show(d)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if d.Dropped != (directory.Dropped{}) {
			t.Fatalf("dropped: %+v", d.Dropped)
		}
	}
}

func TestTwoVolumesOfOneNameAreBothListedAndOneHasTheName(t *testing.T) {
	n := open(t, 1)
	pins := []pinset.Pin{
		newVolume(t, n, "a", 1).pin(t, "x", 2, 0, 1), newVolume(t, n, "b", 1).pin(t, "x", 2, 0, 1),
	}
	d := must(directory.List(n, seq(pins)))(t)
	if len(d.Volumes) != 2 || d.Volumes[0].Named == d.Volumes[1].Named {
		t.Fatalf("%v", show(d))
	}
}

func TestPinsThatCannotBeBelievedAreCountedAndPassedOver(t *testing.T) {
	n := open(t, 1)
	good := newVolume(t, n, "data", 1).pin(t, "data", 1, 0, 3)
	older := newVolume(t, n, "data", 1).pin(t, "data", 1, 0, 2)
	thief := newVolume(t, open(t, 2), "data", 1).pin(t, "data", 1, 0, 99)
	other := newVolume(t, n, "other", 1).pin(t, "other", 1, 0, 99)
	changed := func(f func(p *pinset.Pin)) pinset.Pin {
		p := good
		p.Meta = maps.Clone(p.Meta)
		f(&p)
		return p
	}
	for what, tc := range map[string]struct {
		pin  pinset.Pin
		want error
	}{
		"another namespace":         {thief, directory.ErrForged},
		"a person's":                {pinset.Pin{Root: good.Root, Name: "my pin"}, directory.ErrOther},
		"no name":                   {pinset.Pin{Root: good.Root, Meta: good.Meta}, directory.ErrMisnamed},
		"a snapshot's":              {pinset.Pin{Root: good.Root, Name: good.Name, Meta: map[string]string{"path": "/home"}}, directory.ErrOther},
		"signed by another":         {changed(func(p *pinset.Pin) { p.Meta = thief.Meta }), directory.ErrForged},
		"another volume's record":   {changed(func(p *pinset.Pin) { p.Meta[directory.KeyHead] = other.Meta[directory.KeyHead] }), directory.ErrForged},
		"an older record":           {changed(func(p *pinset.Pin) { p.Meta[directory.KeyHead] = older.Meta[directory.KeyHead] }), directory.ErrMisnamed},
		"another sequence":          {changed(func(p *pinset.Pin) { p.Name = older.Name }), directory.ErrMisnamed},
		"another name":              {changed(func(p *pinset.Pin) { p.Name = strings.Replace(p.Name, "data", "date", 1) }), directory.ErrMisnamed},
		"sequence written in two":   {changed(func(p *pinset.Pin) { p.Name = strings.Replace(p.Name, "/3", "/03", 1) }), directory.ErrMisnamed},
		"another root":              {changed(func(p *pinset.Pin) { p.Root = older.Root }), directory.ErrMisnamed},
		"no binding":                {changed(func(p *pinset.Pin) { delete(p.Meta, directory.KeyBinding) }), directory.ErrMalformed},
		"no record":                 {changed(func(p *pinset.Pin) { delete(p.Meta, directory.KeyHead) }), directory.ErrMalformed},
		"not base64":                {changed(func(p *pinset.Pin) { p.Meta[directory.KeyHead] = "!" }), directory.ErrMalformed},
		"base64 with line ends":     {changed(func(p *pinset.Pin) { p.Meta[directory.KeyHead] += "\n" }), directory.ErrMalformed},
		"cut short":                 {changed(func(p *pinset.Pin) { p.Meta[directory.KeyBinding] = p.Meta[directory.KeyBinding][:40] }), directory.ErrMalformed},
		"a long note":               {changed(func(p *pinset.Pin) { p.Meta["x"] = strings.Repeat("x", directory.MaxSize) }), directory.ErrOversized},
		"a long note, once escaped": {changed(func(p *pinset.Pin) { p.Meta["x"] = strings.Repeat("/", directory.MaxSize/2) }), directory.ErrOversized},
		"a long name":               {changed(func(p *pinset.Pin) { p.Name += strings.Repeat("x", directory.MaxSize) }), directory.ErrOversized},
		"a hundred thousand notes": {changed(func(p *pinset.Pin) {
			for i := range 100_000 {
				p.Meta[fmt.Sprint(i)] = "x"
			}
		}), directory.ErrOversized},
	} {
		if _, err := directory.Read(n, tc.pin); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", what, err, tc.want)
		}
		d := must(directory.List(n, seq([]pinset.Pin{tc.pin, good})))(t)
		if got := show(d); !slices.Equal(got, []string{"data@3 of 1"}) {
			t.Errorf("%s: %v", what, got)
		}
		if d.Dropped.Other+d.Dropped.Oversized+d.Dropped.Malformed+d.Dropped.Forged+d.Dropped.Misnamed != 1 {
			t.Errorf("%s: dropped %+v", what, d.Dropped)
		}
	}
	if e, err := directory.Read(n, changed(func(p *pinset.Pin) { p.Meta["path"] = "/home" })); err != nil || e.Head.Sequence != 3 {
		t.Errorf("with a note of somebody's: %v", err)
	}
}

func TestTheLongestNameFitsIntoAPin(t *testing.T) {
	n := open(t, 1)
	name := strings.Repeat("é", namespace.MaxName/2)
	p := newVolume(t, n, "data", 1).pin(t, name, namespace.MaxGeneration, 1, head.MaxSequence)
	e := must(directory.Read(n, p))(t)
	if e.Binding.Name != name {
		t.Errorf("name %q", e.Binding.Name)
	}
}

func TestErrorOfThePinsEndsTheListing(t *testing.T) {
	n := open(t, 1)
	broken := errors.New("broken")
	_, err := directory.List(n, func(yield func(pinset.Pin, error) bool) {
		_ = yield(newVolume(t, n, "data", 1).pin(t, "data", 1, 0, 1), nil) && yield(pinset.Pin{}, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
}

func TestDirectoryIsReadFromAPinset(t *testing.T) {
	n := open(t, 1)
	set := pinsettest.NewMemory()
	for i := range 10 {
		v := newVolume(t, n, fmt.Sprint("v", i), 1)
		for s := range uint64(3) {
			if err := set.Add(t.Context(), v.pin(t, fmt.Sprint("v", i), 1, 0, s+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := must(directory.List(n, set.All(t.Context())))(t)
	if len(d.Volumes) != 10 || d.Volumes[0].Head.Sequence != 3 || d.Volumes[0].Heads != 3 {
		t.Errorf("%v", show(d))
	}
}

func FuzzPinReadsBackAsMade(f *testing.F) {
	n := open(f, 1)
	p := newVolume(f, n, "data", 1).pin(f, "data", 1, 0, 3)
	f.Add(p.Name, p.Meta[directory.KeyHead], p.Meta[directory.KeyBinding], "x")
	f.Fuzz(func(t *testing.T, name, record, binding, more string) {
		e, err := directory.Read(n, pinset.Pin{Root: p.Root, Name: name, Meta: map[string]string{
			directory.KeyHead: record, directory.KeyBinding: binding, "more": more,
		}})
		if err != nil {
			return
		}
		again := must(directory.Pin(n, e))(t)
		if again.Name != name || again.Meta[directory.KeyHead] != record || again.Meta[directory.KeyBinding] != binding || again.Root != p.Root {
			t.Fatal("what was read is written otherwise")
		}
	})
}

func BenchmarkListTenThousandPins(b *testing.B) {
	n := open(b, 1)
	var pins []pinset.Pin
	for i := range 1000 {
		v := newVolume(b, n, fmt.Sprint("v", i), 1)
		for s := range uint64(10) {
			pins = append(pins, v.pin(b, fmt.Sprint("v", i), 1, 0, s+1))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		must(directory.List(n, seq(pins)))(b)
	}
}
