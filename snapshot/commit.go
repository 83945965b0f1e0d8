package snapshot

import (
	"fmt"
	"time"
	"unicode/utf8"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/dagcbor"
)

// CommitKind is the kind field of a commit's node.
const CommitKind = "volary/commit/1"

// Consistency is what a commit promises about the moment its files are from.
type Consistency string

const (
	Clean  Consistency = "clean"  // nothing could write
	Paused Consistency = "paused" // the writers were frozen
	Hook   Consistency = "hook"   // the application was told to be consistent
	Live   Consistency = "live"   // each file is whole by itself, files may be from different moments
)

func (c Consistency) valid() bool { return c == Clean || c == Paused || c == Hook || c == Live }

// ImportInfo says how the tree was built, so that it can be built again.
type ImportInfo struct {
	Profile string // named UnixFS profile of IPIP-499, such as "unixfs-v1-2025"
	Chunker string // such as "size-1048576"
}

// Stats counts what a commit's tree and sidecar hold, for listing without a walk. They are informative.
type Stats struct {
	Files    uint64 // regular files, every name of a hardlinked one
	Dirs     uint64 // directories, the top one included
	Symlinks uint64
	Others   uint64 // devices, fifos, sockets
	Bytes    uint64 // content of the regular files, holes included, a hardlinked one once
}

// An Ancestor is an earlier commit, with what is needed to list it when its blocks are gone.
type Ancestor struct {
	CID      cid.Cid
	Sequence uint64
	Time     time.Time
}

// A Commit is one state of a directory and its place in a history. A snapshot is the CID of a commit.
//
// Parents, Recent and Older are set by [Extend]. Parents and recent ancestors are bytes in the node, not
// links, so that pinning a commit keeps that snapshot and not its history.
type Commit struct {
	Tree        cid.Cid    // UnixFS directory
	Meta        cid.Cid    // POSIX sidecar; undefined for a tree that came without one
	Parents     []cid.Cid  // the commits this one was made from, if any
	Recent      []Ancestor // up to MaxRecent ancestors, newest first
	Older       cid.Cid    // sealed chunk of the ancestors before Recent; undefined if there are none
	Volume      string     // IPNS name of the volume; empty for a plain snapshot
	Sequence    uint64     // 1 + the largest of the parents'
	Time        time.Time
	Author      string // peer ID of the host; informative, proves nothing
	Message     string
	Labels      map[string]string
	Import      ImportInfo
	Consistency Consistency
	Stats       Stats
	// NoXattrs says that no entry has extended attributes, so that a mount need not look for them file by file.
	// False says nothing.
	NoXattrs bool
	// Fork is set if the host that made this knew of a head of the volume that it does not come after, or if that head
	// had it set: then it is the state by which this branch counts beside others, which is the newest one on it, or the
	// one that counts most, that was made by somebody who knew of no other branch. See [Losing].
	Fork State
}

// encryptionNone is the only value of the encryption field; the field is there so that a later format can
// have others and be refused by programs that do not know them.
const encryptionNone = "none"

type wireCommit struct {
	Kind        string            `cbor:"kind"`
	Tree        dagcbor.Link      `cbor:"tree"`
	Meta        dagcbor.Link      `cbor:"meta"`
	Parents     [][]byte          `cbor:"parents"`
	Recent      []wireAncestor    `cbor:"recent"`
	Older       dagcbor.Link      `cbor:"older"`
	Volume      string            `cbor:"volume"`
	Sequence    uint64            `cbor:"sequence"`
	Time        int64             `cbor:"time"` // ns since 1970
	Author      string            `cbor:"author"`
	Message     string            `cbor:"message"`
	Labels      map[string]string `cbor:"labels"`
	Import      wireImport        `cbor:"import"`
	Consistency string            `cbor:"consistency"`
	Encryption  string            `cbor:"encryption"`
	Stats       wireStats         `cbor:"stats"`
	NoXattrs    bool              `cbor:"noxattrs,omitempty"`
	Fork        *wireState        `cbor:"fork,omitempty"`
}

type wireState struct {
	_        struct{} `cbor:",toarray"`
	CID      []byte
	Sequence uint64
}

type wireAncestor struct {
	_        struct{} `cbor:",toarray"`
	CID      []byte
	Sequence uint64
	Time     int64
}

type wireImport struct {
	Profile string `cbor:"profile"`
	Chunker string `cbor:"chunker"`
}

type wireStats struct {
	Files    uint64 `cbor:"files"`
	Dirs     uint64 `cbor:"dirs"`
	Symlinks uint64 `cbor:"symlinks"`
	Others   uint64 `cbor:"others"`
	Bytes    uint64 `cbor:"bytes"`
}

// EncodeCommit makes a commit's block. A commit that DecodeCommit would refuse is not encoded.
func EncodeCommit(c *Commit) (blocks.Block, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("encode commit: %w", err)
	}
	w := wireCommit{
		Kind: CommitKind, Tree: dagcbor.Link{Cid: c.Tree}, Meta: dagcbor.Link{Cid: c.Meta},
		Recent: ancestorsToWire(c.Recent), Older: dagcbor.Link{Cid: c.Older},
		Volume: c.Volume, Sequence: c.Sequence, Time: c.Time.UnixNano(), Author: c.Author, Message: c.Message,
		Labels: c.Labels, Import: wireImport(c.Import), Consistency: string(c.Consistency),
		Encryption: encryptionNone, Stats: wireStats(c.Stats), NoXattrs: c.NoXattrs,
	}
	for _, p := range c.Parents {
		w.Parents = append(w.Parents, p.Bytes())
	}
	if c.Fork != (State{}) {
		w.Fork = &wireState{CID: c.Fork.CID.Bytes(), Sequence: c.Fork.Sequence}
	}
	return dagcbor.Encode(w)
}

// DecodeCommit reads a commit's block. All errors wrap [ErrFormat].
func DecodeCommit(b blocks.Block) (*Commit, error) {
	var w wireCommit
	if err := dagcbor.Decode(b, &w); err != nil {
		return nil, err
	}
	if w.Kind != CommitKind || w.Encryption != encryptionNone {
		return nil, fmt.Errorf("decode commit %s: kind %q with encryption %q is not known: %w", b.Cid(), w.Kind, w.Encryption, ErrFormat)
	}
	recent, err := ancestorsFromWire(w.Recent)
	if err != nil {
		return nil, fmt.Errorf("decode commit %s: %w", b.Cid(), err)
	}
	c := &Commit{
		Tree: w.Tree.Cid, Meta: w.Meta.Cid, Recent: recent, Older: w.Older.Cid,
		Volume: w.Volume, Sequence: w.Sequence, Time: time.Unix(0, w.Time).UTC(), Author: w.Author,
		Message: w.Message, Labels: w.Labels, Import: ImportInfo(w.Import),
		Consistency: Consistency(w.Consistency), Stats: Stats(w.Stats), NoXattrs: w.NoXattrs,
	}
	for _, p := range w.Parents {
		parent, err := castCID(p)
		if err != nil {
			return nil, fmt.Errorf("decode commit %s: parent: %w", b.Cid(), err)
		}
		c.Parents = append(c.Parents, parent)
	}
	if w.Fork != nil {
		if c.Fork.CID, err = castCID(w.Fork.CID); err != nil {
			return nil, fmt.Errorf("decode commit %s: fork: %w", b.Cid(), err)
		}
		c.Fork.Sequence = w.Fork.Sequence
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("decode commit %s: %w", b.Cid(), err)
	}
	return c, nil
}

// IsCommit reports whether a block claims to be a commit, of this or a later format. [DecodeCommit] says
// whether it is one.
func IsCommit(b blocks.Block) bool {
	if b.Cid().Prefix().Codec != cid.DagCBOR {
		return false
	}
	return dagcbor.HasKind(b.RawData(), "volary/commit/")
}

func (c *Commit) check() error {
	bad := ""
	switch {
	case !c.Tree.Defined():
		bad = "no tree"
	case !c.Consistency.valid():
		bad = fmt.Sprintf("consistency %q is not known", c.Consistency)
	case c.Sequence == 0:
		bad = "sequence is 0"
	case !c.isText():
		bad = "a text is not UTF-8"
	case len(c.Recent) > MaxRecent:
		bad = fmt.Sprintf("%d recent ancestors are more than %d", len(c.Recent), MaxRecent)
	case c.Fork != State{} && (c.Volume == "" || len(c.Parents) == 0 || !c.Fork.CID.Defined() || c.Fork.Sequence == 0 || c.Fork.Sequence >= c.Sequence):
		bad = "a fork of nothing"
	case len(c.Parents) > 0 && len(c.Recent) == 0, c.Older.Defined() && len(c.Recent) == 0:
		bad = "a history without recent ancestors"
	}
	if bad != "" {
		return fmt.Errorf("%s: %w", bad, ErrFormat)
	}
	return checkOrder(c.Recent)
}

// isText reports whether all texts are UTF-8, as DAG-CBOR wants them.
func (c *Commit) isText() bool {
	for k, v := range c.Labels {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return false
		}
	}
	for _, s := range []string{c.Volume, c.Author, c.Message, c.Import.Profile, c.Import.Chunker} {
		if !utf8.ValidString(s) {
			return false
		}
	}
	return true
}
