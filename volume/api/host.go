// Package api is how programs on one host share its state: an HTTP API on a unix socket, and its client.
//
// Start with [Host]: what a store, its pins and its upkeep offer, either opened directly or through the
// socket of the daemon that holds them. The verbs of the command line are written against it, so each has
// one implementation. Only blocks, pins, tags and stat records cross the socket; files are read and written
// by the caller's process with the caller's rights.
package api

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/volume"
)

// Host is a host's state. All of its parts are safe for concurrent use.
type Host struct {
	Blocks   snapshot.Blocks
	Sessions Sessions
	Pins     pinset.Set
	Tags     Tags
	Origins  Origins // the caller's
	Owners   Owners  // for the callers of a server; nil in a client's host
	Upkeep   Upkeep
	Volumes  Volumes  // nil if there are none
	Heads    Heads    // nil if nothing is signed, in a server's host
	Replicas Replicas // nil as NoReplicas, in a server's host
	Network  Network  // nil as NoNetwork, in a server's host
	io.Closer
}

// Session is a Blocks under which nothing is collected: every block put or found present through it stays
// until Close. It also remembers what directories' files hashed to.
type Session interface {
	snapshot.Blocks
	importer.StatCache
	io.Closer
}

// Sessions begins sessions. The context bounds the call, not the session.
type Sessions interface {
	Session(ctx context.Context) (Session, error)
}

// Tags are names people give to roots; a tagged root is kept. Tag moves a name that exists, Untag of an
// unknown name is an error that wraps fs.ErrNotExist. Both are durable when they return.
type Tags interface {
	Tag(ctx context.Context, name string, root cid.Cid) error
	Untag(ctx context.Context, name string) error
	Tags(ctx context.Context) (map[string]cid.Cid, error)
}

// Origins remembers which commits were made here; what a commit says of its author proves nothing. MarkOwn
// is the caller's word for it. Own is true if the caller or root has given theirs: a commit may ask for setuid
// bits and devices, so nobody else's word may count. A mark outlives the commit's pin.
type Origins interface {
	MarkOwn(ctx context.Context, commit cid.Cid) error
	Own(ctx context.Context, commit cid.Cid) (bool, error)
}

// Owners remembers for each user which commits they have marked. OwnBy is true if uid has, or root. Whoever
// passes an uid has it from the kernel.
type Owners interface {
	MarkOwnBy(ctx context.Context, commit cid.Cid, uid uint32) error
	OwnBy(ctx context.Context, commit cid.Cid, uid uint32) (bool, error)
}

// Volumes are the host's volumes; see [volume.Manager].
type Volumes interface {
	List(ctx context.Context, o volume.ListOptions) ([]volume.Info, error)
	Inspect(ctx context.Context, name string) (*volume.Info, error)
	Resolve(ctx context.Context, ref string) (cid.Cid, error)
	Do(ctx context.Context, op volume.Operation) (volume.Result, error)
	Watch(ctx context.Context, o volume.WatchOptions) iter.Seq2[volume.News, error]
}

var _ Volumes = (*volume.Manager)(nil)

// Upkeep looks after the store.
type Upkeep interface {
	// Collect removes what no pin, tag or session keeps, or with dryRun says what it would.
	Collect(ctx context.Context, dryRun bool) (Collected, error)
	// Drop forgets a block whose bytes are damaged, so that it can be put again.
	Drop(ctx context.Context, c cid.Cid) error
	Status(ctx context.Context) (Status, error)
}

// Collected is what a collection did, or would do.
type Collected struct {
	RemovedBlocks uint64    `json:"removed_blocks"`
	RemovedBytes  uint64    `json:"removed_bytes"`
	FreedBytes    uint64    `json:"freed_bytes"` // of disk space given back
	KeptBlocks    uint64    `json:"kept_blocks"`
	KeptBytes     uint64    `json:"kept_bytes"`
	Missing       []cid.Cid `json:"missing,omitempty"` // blocks that pins need and the store lacks
	Damaged       []cid.Cid `json:"damaged,omitempty"` // those it has, but not with their bytes
	// Elsewhere are some of the blocks that pins need and were never here: other hosts have them.
	Elsewhere []cid.Cid `json:"elsewhere,omitempty"`
	// Withheld says that nothing was removed, because it is not known what a missing block links to.
	Withheld bool `json:"withheld,omitempty"`
	// Collector is the Kubo daemon whose blocks are to be removed by itself; of them nothing is counted above.
	Collector string `json:"collector,omitempty"`
	Released  uint64 `json:"released,omitempty"` // pins and sessions in it that were left over
	Unknown   uint64 `json:"unknown,omitempty"`  // pins in it in this host's name that its state says nothing of; they stay
	// RemovedVolumes are how many volumes were removed and can be brought back: their states are kept.
	RemovedVolumes uint64 `json:"removed_volumes,omitempty"`
	// What the cluster lacked of what is kept and is told of now, what it is to let go of, and why it was not compared.
	Told        uint64 `json:"told,omitempty"`
	Untold      uint64 `json:"untold,omitempty"`
	NotCompared string `json:"not_compared,omitempty"`
}

// Status is the state of a host at a glance.
type Status struct {
	Home    string        `json:"home"`
	Daemon  bool          `json:"daemon"` // answered by a daemon
	Version string        `json:"version"`
	PeerID  string        `json:"peer_id"`
	Pins    uint64        `json:"pins"`
	Tags    uint64        `json:"tags"`
	Volumes volume.Counts `json:"volumes"`
	Blocks  uint64        `json:"blocks"`
	Bytes   uint64        `json:"bytes"`      // of blocks
	Disk    uint64        `json:"disk_bytes"` // used by the store
	Free    uint64        `json:"free_bytes"` // on its file system

	// What a host has beside its own disk; nil if it is not configured.
	Network *NetworkState  `json:"network,omitempty"`
	Kubo    *KuboStatus    `json:"kubo,omitempty"`
	Cluster *ClusterStatus `json:"cluster,omitempty"`
	Outbox  *OutboxStatus  `json:"outbox,omitempty"`
}

// KuboStatus says whether the daemon with the blocks answers.
type KuboStatus struct {
	Endpoint string `json:"endpoint"`
	Version  string `json:"version,omitempty"`
	Error    string `json:"error,omitempty"` // why nothing is known
}

// ClusterStatus says how what is kept is replicated.
type ClusterStatus struct {
	Peers []string `json:"peers"`           // names of those that are alive
	Error string   `json:"error,omitempty"` // why they are not known
	// Behind are the volumes whose head fewer peers hold than are to, so far as that could be found out in time.
	Behind []Behind `json:"behind"`
	// BehindError is why not all volumes were looked at, if so.
	BehindError string `json:"behind_error,omitempty"`
	// Refused is how many pins in the cluster claimed to be a volume's and were not believed, when they were last read.
	Refused int `json:"refused,omitempty"`
}

// Behind is a volume whose head is not replicated as it is to be.
type Behind struct {
	Volume string `json:"volume"`
	Head   string `json:"head"`
	// State is "waiting" (in the outbox), "unpinned" (the cluster does not know it) or "pinning" (too few hold it).
	State  string `json:"state"`
	Pinned int    `json:"pinned"` // peers that hold it
	Min    int    `json:"min"`    // that are to, at least; -1: all
}

// OutboxStatus is what the cluster was not told yet.
type OutboxStatus struct {
	Waiting  int        `json:"waiting"`
	Untold   int        `json:"untold,omitempty"` // volumes of which not everything is in it yet
	Oldest   *time.Time `json:"oldest,omitempty"` // when it was put
	Attempts int        `json:"attempts"`         // the most of anything that waits
	Pinned   uint64     `json:"pinned"`           // pins that the cluster took, since the state was opened
	Unpinned uint64     `json:"unpinned"`         // unpins, likewise
	Failed   uint64     `json:"failed"`           // attempts, likewise
	Error    string     `json:"error,omitempty"`  // the last one of what waits
}
