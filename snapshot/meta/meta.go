// Package meta is the POSIX sidecar of a tree: everything about a directory that UnixFS does not hold.
//
// It mirrors the tree's directories in dag-cbor. A [Root] node has the attributes of the top directory, a
// link to its rows and a link to the hardlink table; each directory has one [Row] an entry, in byte order of
// the names. A large directory is cut into runs at boundaries given by the hashes of the names, under one
// index node, so that an insertion re-writes one run and the index. Start with [WriteDir] and [WriteRoot],
// or [ReadRoot] and [Rows].
//
// Every decoder accepts only what re-encodes to the same bytes, and refuses what no encoder here writes.
package meta

import (
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// Type is what a directory entry is.
type Type uint8

const (
	File Type = iota
	Dir
	Symlink
	FIFO
	Socket
	CharDevice
	BlockDevice
)

var typeNames = [...]string{"file", "dir", "symlink", "fifo", "socket", "char", "block"}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// InTree reports whether UnixFS can hold an entry of this type; the others exist in the sidecar alone.
func (t Type) InTree() bool { return t == File || t == Dir || t == Symlink }

// Permission bits beyond the usual nine, as in stat(2).
const (
	Setuid   = 0o4000
	Setgid   = 0o2000
	Sticky   = 0o1000
	ModeMask = 0o7777
)

// Xattr is one extended attribute, its name with the prefix ("user.", "security.", …).
type Xattr struct {
	Name  string
	Value []byte
}

// Attr is everything the sidecar knows of an entry, its name apart.
type Attr struct {
	Type     Type
	Mode     uint16 // permission bits with setuid, setgid and sticky; at most ModeMask
	UID, GID uint32
	Sec      int64   // mtime, whole seconds since 1970 (negative before)
	Nsec     uint32  // mtime, nanoseconds of the second
	Xattrs   []Xattr // in byte order of the names
	XattrsAt cid.Cid // where the xattrs are when they are too many for the row; see [ReadXattrs]
	Sparse   bool    // files only: aligned zero runs of SparseUnit bytes are holes
	Major    uint32  // devices only
	Minor    uint32  // devices only
	Below    uint64  // directories only: number of entries below, at any depth
	Entries  cid.Cid // directories only: the node with the rows; undefined if there are none
}

// SparseUnit is the size and alignment in bytes of the zero runs that are holes in a sparse file.
const SparseUnit = 4096

// Mtime is the modification time.
func (a Attr) Mtime() time.Time { return time.Unix(a.Sec, int64(a.Nsec)) }

// Row is one entry of a directory.
type Row struct {
	Name string
	Attr
}

// MaxName is the longest name in bytes, as Linux has it.
const MaxName = 255

// CheckName says whether a name may stand in a directory: not empty, not "." or "..", without slash or NUL,
// at most [MaxName] bytes. Names are byte strings and need not be UTF-8.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("name %q is not allowed: %w", name, snapshot.ErrFormat)
	case len(name) > MaxName:
		return fmt.Errorf("name of %d bytes is longer than %d: %w", len(name), MaxName, snapshot.ErrFormat)
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return fmt.Errorf("name %q has a slash or NUL: %w", name, snapshot.ErrFormat)
		}
	}
	return nil
}

// check refuses attributes that no encoder here would write.
func (a Attr) check() error {
	dir, dev := a.Type == Dir, a.Type == CharDevice || a.Type == BlockDevice
	bad := ""
	switch {
	case int(a.Type) >= len(typeNames):
		bad = "unknown type"
	case a.Mode > ModeMask:
		bad = "mode out of range"
	case a.Nsec >= 1e9:
		bad = "nanoseconds out of range"
	case a.Sparse && a.Type != File:
		bad = "sparse, but not a file"
	case (a.Major != 0 || a.Minor != 0) && !dev:
		bad = "device number, but not a device"
	case (a.Below != 0 || a.Entries.Defined()) && !dir:
		bad = "entries, but not a directory"
	case (a.Below != 0) != a.Entries.Defined():
		bad = "count and link of the entries disagree"
	case len(a.Xattrs) > 0 && a.XattrsAt.Defined():
		bad = "xattrs both in the row and outside"
	case xattrSize(a.Xattrs) > maxInlineXattrs:
		bad = "too many xattrs for a row"
	}
	if bad != "" {
		return fmt.Errorf("%s: %w", bad, snapshot.ErrFormat)
	}
	return checkXattrs(a.Xattrs)
}

func xattrSize(xs []Xattr) int {
	n := 0
	for _, x := range xs {
		n += len(x.Name) + len(x.Value)
	}
	return n
}

func checkXattrs(xs []Xattr) error {
	for i, x := range xs {
		if x.Name == "" || len(x.Name) > MaxName {
			return fmt.Errorf("xattr name of %d bytes: %w", len(x.Name), snapshot.ErrFormat)
		}
		if i > 0 && xs[i-1].Name >= x.Name {
			return fmt.Errorf("xattrs out of order at %q: %w", x.Name, snapshot.ErrFormat)
		}
	}
	return nil
}
