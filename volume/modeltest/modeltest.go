// Package modeltest applies the same random operations to two directories, one that is tested and one that says
// what is right, and compares what becomes of them.
//
// Start with a [Generator], which makes operations from a seed, and a [Pair], which applies them. An [Op] is
// data: a run that failed can be printed, run again, and made shorter by [Shrink]. [Compare] says in what two
// snapshots differ, and which of their times can be compared.
package modeltest

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Op is one operation. What its numbers mean depends on the kind; paths are relative to the directory.
type Op struct {
	Kind     string
	Path, To string
	Off, Len int64
	Mode     uint32
	Seed     uint64 // of content
	Name     string // of an extended attribute
	Value    string
}

// String implements [fmt.Stringer], leaving out what is zero.
func (o Op) String() string {
	s := o.Kind
	for _, f := range []struct {
		name  string
		value any
		zero  bool
	}{
		{"path", o.Path, o.Path == ""}, {"to", o.To, o.To == ""}, {"off", o.Off, o.Off == 0}, {"len", o.Len, o.Len == 0},
		{"mode", fmt.Sprintf("%#o", o.Mode), o.Mode == 0}, {"seed", o.Seed, o.Seed == 0}, {"name", o.Name, o.Name == ""},
		{"value", o.Value, o.Value == ""},
	} {
		if !f.zero {
			s += fmt.Sprintf(" %s=%q", f.name, fmt.Sprint(f.value))
		}
	}
	return s
}

// content returns n bytes that depend on the seed.
func content(seed uint64, n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
	return b
}

// Pair is two directories that the same is done to.
type Pair struct {
	Tested, Plain string

	handles []*handle
	mapped  map[uint64]bool // inodes of Plain that were stored to through a mapping
	filled  map[uint64]bool // inodes of Plain that were given room that nothing was written to
	errs    map[string]int  // errors that both gave
}

// NewPair returns a pair of directories that are equal.
func NewPair(tested, plain string) *Pair {
	return &Pair{Tested: tested, Plain: plain, mapped: map[uint64]bool{}, filled: map[uint64]bool{}, errs: map[string]int{}}
}

// Do applies an operation. It is an error if the two do not give the same result.
func (p *Pair) Do(o Op) error {
	f, ok := actions()[o.Kind]
	if !ok {
		return fmt.Errorf("operation %q is not known", o.Kind)
	}
	return p.both(o, f)
}

func (p *Pair) both(o Op, f action) error {
	x := &act{Op: o, pair: p}
	if o.Kind == kindHold {
		x.handle = p.hold()
	} else if o.Kind == kindHeld && len(p.handles) > 0 {
		x.handle = p.handles[int(o.Seed%uint64(len(p.handles)))]
	}
	var errs [2]error
	for side, root := range []string{p.Tested, p.Plain} {
		x.side, x.root = side, root
		errs[side] = f(x)
		if side == 0 && errs[0] == unix.EXDEV {
			// overlayfs has 256 bytes to note what something of the base was called. Otherwise the program is to copy it.
			p.errs[fmt.Sprintf("%s, in the tested alone: %v", o.Kind, errs[0])]++
			return nil
		}
	}
	if errs[0] == unix.ENOTSUP && errs[1] == unix.ENODATA {
		errs[0] = errs[1] // there is no such attribute; of a base without any the kernel does not ask for each file
	}
	if errs[0] != errs[1] {
		return fmt.Errorf("%s: %v, where a plain directory says %v", o, errs[0], errs[1])
	}
	if errs[1] != nil {
		p.errs[fmt.Sprintf("%s: %v", o.Kind, errs[1])]++
	}
	return nil
}

// Errors counts the errors that both directories gave, by operation.
func (p *Pair) Errors() map[string]int { return p.errs }

// Mapped reports whether a file of Plain was stored to through a mapping. The kernel stamps such a file when its
// page was clean, so when it was last written back decides about the time.
func (p *Pair) Mapped(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(p.Plain+"/"+path, &st) == nil && p.mapped[st.Ino]
}

// Filled reports whether a file of Plain was given room that nothing was written to. A filesystem says that it is a hole
// until somebody has read it and the page is still in memory.
func (p *Pair) Filled(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(p.Plain+"/"+path, &st) == nil && p.filled[st.Ino]
}

// handle is a file that is held open, and perhaps mapped, in both directories.
type handle struct {
	fd  [2]int
	mem [2][]byte
}

const maxHandles = 12

// hold makes room for one more handle.
func (p *Pair) hold() *handle {
	if len(p.handles) == maxHandles {
		p.handles[0].close()
		p.handles = p.handles[1:]
	}
	h := &handle{fd: [2]int{-1, -1}}
	p.handles = append(p.handles, h)
	return h
}

func (h *handle) close() {
	for side, fd := range h.fd {
		if h.mem[side] != nil {
			unix.Munmap(h.mem[side])
		}
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Close lets go of all files that are held.
func (p *Pair) Close() {
	for _, h := range p.handles {
		h.close()
	}
	p.handles = nil
}

// Shrink returns a shorter list of operations with which fails is still true. It stops at the deadline.
func Shrink(ops []Op, deadline time.Time, fails func([]Op) bool) []Op {
	for size := len(ops) / 2; size > 0; size /= 2 {
		for at := 0; at < len(ops); {
			if time.Now().After(deadline) {
				return ops
			}
			without := append(append([]Op(nil), ops[:at]...), ops[min(at+size, len(ops)):]...)
			if fails(without) {
				ops = without
			} else {
				at += size
			}
		}
	}
	return ops
}
