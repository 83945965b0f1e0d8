package modeltest

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Generator makes operations that depend on its seed and on what is in the plain directory. It must be made by
// NewGenerator.
type Generator struct {
	r       *rand.Rand
	plain   bool
	entries int
}

// Limits of how many entries there are before the generator makes fewer, or more, of them.
const (
	manyEntries = 500
	fewEntries  = 150
)

// NewGenerator returns the generator of a seed. If plain is set it makes nothing that looks like an overlay's own,
// for a lower layer that cannot have that.
func NewGenerator(seed uint64, plain bool) *Generator {
	return &Generator{r: rand.New(rand.NewPCG(seed, 1)), plain: plain}
}

// IntN is a number below n, out of the same seed, for what the caller does beside.
func (g *Generator) IntN(n int) int { return g.r.IntN(n) }

// Count tells the generator how many entries there are.
func (g *Generator) Count(p *Pair) {
	g.entries = 0
	filepath.WalkDir(p.Plain, func(string, fs.DirEntry, error) error { g.entries++; return nil })
}

// Next makes an operation.
func (g *Generator) Next(p *Pair) Op {
	d := dice{g.r, p.Plain}
	for {
		kinds := makers
		switch {
		case g.entries > manyEntries:
			kinds = shrinking
		case g.entries < fewEntries:
			kinds = growing
		}
		// Mostly all kinds, so that the tree's size only leans to one side.
		if g.r.IntN(2) == 0 {
			kinds = makers
		}
		if o, ok := d.pickOp(kinds()); ok && !(g.plain && strings.HasPrefix(o.Name, overlayXattr)) {
			return o
		}
	}
}

// maker makes operations of one sort, with a weight.
type maker struct {
	weight int
	make   func(d dice) (Op, bool)
}

func growing() []maker {
	return []maker{
		{7, dice.create}, {5, dice.mkdir}, {5, dice.link}, {2, dice.symlink}, {2, dice.mknod}, {3, dice.tmpfile}, {3, dice.sparse},
		{2, dice.copy},
	}
}

func shrinking() []maker {
	return []maker{{5, dice.unlink}, {2, dice.rmdir}, {1, dice.remove}, {1, dice.unlinked}, {4, dice.rename}}
}

func makers() []maker {
	return append(append(growing(), shrinking()...), []maker{
		{7, dice.write}, {3, dice.appendTo}, {4, dice.renameDir}, {3, dice.exchange}, {4, dice.chmod}, {3, dice.chown}, {4, dice.times},
		{5, dice.setXattr}, {3, dice.removeXattr}, {3, dice.truncate}, {3, dice.allocate}, {6, dice.hold}, {6, dice.held},
	}...)
}

// dice makes choices in a directory.
type dice struct {
	*rand.Rand
	root string
}

func (d dice) pickOp(ms []maker) (Op, bool) {
	total := 0
	for _, m := range ms {
		total += m.weight
	}
	n := d.IntN(total)
	for _, m := range ms {
		if n -= m.weight; n < 0 {
			return m.make(d)
		}
	}
	return Op{}, false
}

func one[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// kinds of entries that pick looks for.
const (
	anything  = "any"
	directory = "dir"
	file      = "file"
	noDir     = "no dir"
)

// pick goes down at random until it is at an entry of a kind.
func (d dice) pick(kind string) (string, bool) {
	for range 8 {
		at := ""
		for range 12 {
			es, err := os.ReadDir(d.root + "/" + at)
			if err != nil || len(es) == 0 || kind == directory && d.IntN(4) == 0 {
				break
			}
			e := es[d.IntN(len(es))]
			if kind == directory && !e.IsDir() {
				continue
			}
			at = path.Join(at, e.Name())
			if !e.IsDir() || kind == anything && d.IntN(4) == 0 {
				break
			}
		}
		if d.is(at, kind) {
			return at, true
		}
	}
	return "", false
}

func (d dice) is(at, kind string) bool {
	var st unix.Stat_t
	if unix.Lstat(d.root+"/"+at, &st) != nil {
		return false
	}
	t := st.Mode & unix.S_IFMT
	switch kind {
	case directory:
		return t == unix.S_IFDIR
	case file:
		return t == unix.S_IFREG
	case noDir:
		return t != unix.S_IFDIR
	}
	return at != "" || d.IntN(8) == 0
}

// name is one of few, so that names meet; some are hard to write.
func (d dice) name() string {
	if d.IntN(30) > 0 {
		return fmt.Sprintf("n%02d", d.IntN(36))
	}
	return one(d, "with space", "new\nline", "\xff\xfe", strings.Repeat("long", 63), ".hidden", "ünï", "upper", "work", "#0", ".volaryignore", "a:b,c\\d")
}

// fresh is a place where there may be something already.
func (d dice) fresh() (string, bool) {
	dir, ok := d.pick(directory)
	if !ok || strings.Count(dir, "/") > 7 {
		return "", false
	}
	return path.Join(dir, d.name()), true
}

// size is mostly small. It is never 0: see the copy action.
func (d dice) size() int64 {
	n := one(d, 1, 3_000, 3_000, 3_000, 3_000, 3_000, 20_000, 20_000, 20_000, 60_000)
	return int64(1 + d.IntN(n))
}

func readNames(dir string) ([]string, error) {
	es, err := os.ReadDir(dir)
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return nil, errno
	}
	names := make([]string, len(es))
	for i, e := range es {
		names[i] = e.Name()
	}
	return names, err
}
