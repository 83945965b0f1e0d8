// Package importer turns a directory on disk into a snapshot: the UnixFS tree that `ipfs add -r --hidden` makes
// under the profile unixfs-v1-2025, and the sidecar with everything POSIX that a tree does not hold.
//
// Start with [Import]. What it returns is a function of what is on disk alone: not of timing, of the number of
// workers or of what a [StatCache] remembers. A file is read while nothing changed it, or it is named among
// the unsettled. The directory is opened once, and everything below is reached from directory descriptors,
// without following a symlink. Memory, goroutines and descriptors are bounded, whatever the size of the
// directory, but for the names and attributes of the directories being read.
package importer

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/unixfs"
)

// DefaultIgnoreFile is the name of the files whose lines say what to leave out, in the syntax of gitignore(5).
const DefaultIgnoreFile = ".volaryignore"

// Options of an import. The zero value imports everything that no ignore file excludes, without a cache.
type Options struct {
	Chunker       string    // "size-N", "rabin-MIN-AVG-MAX" or "buzhash"; [DefaultChunker] if empty
	Exclude       []string  // patterns of gitignore(5), relative to the directory; they win over any file
	ExcludeFiles  []string  // files of such patterns, the earlier ones overruled by the later
	NoIgnoreFile  bool      // pay no heed to [DefaultIgnoreFile] in the directory and below
	OneFileSystem bool      // leave the contents of mount points out
	Cache         StatCache // remembers the caller's files that have not changed; nil: every file is read
	Workers       int       // files read at a time; by the number of processors if zero
	Progress      *Progress // counts while the import runs, if not nil
}

// Progress counts what an import has seen and done. It may be read while the import runs.
type Progress struct {
	FoundFiles, FoundBytes atomic.Uint64 // entries other than directories, and their content
	Files, Bytes           atomic.Uint64 // those of them that are in the snapshot by now
	Cached                 atomic.Uint64 // files that did not have to be read
}

// Result is what an import made.
type Result struct {
	// Commit has Tree, Meta, Stats, NoXattrs, Import and Consistency set; when, why and upon what is the caller's.
	Commit *snapshot.Commit
	// Unsettled are the files that changed each time they were read, and the directories that changed each
	// time they were listed, as slash paths relative to the directory. The snapshot holds the last reading.
	Unsettled []string
	// Skipped are the mount points whose contents were left out.
	Skipped []string
	// Excluded is the number of entries that a pattern left out, not counting what is below them.
	Excluded uint64
	// Uncaptured are the names of extended attributes outside of user., security., trusted. and the POSIX
	// ACLs, which were left out.
	Uncaptured []string
}

// Import stores the tree and the sidecar of dir in b; b's Sync makes them durable. It ends soon after ctx
// does. When it fails, what was stored remains and is found again by the next run.
//
// A file that cannot be read is an error. One that vanishes meanwhile is not there.
func Import(ctx context.Context, b snapshot.Blocks, dir string, o Options) (*Result, error) {
	return importDir(ctx, b, dir, o, hooks{})
}

// hooks let tests act at moments that are otherwise a matter of luck.
type hooks struct {
	listed  func(d *dir)      // after the names in a directory were read
	opening func(name string) // before a file is opened
	reading func(name string) // before each time its content is read
	read    func(name string) // after that, before it is known to have settled

	slack    time.Duration          // instead of DefaultSlack, if not zero
	captured func(name string) bool // instead of captured
}

func importDir(ctx context.Context, b snapshot.Blocks, dir string, o Options, h hooks) (*Result, error) {
	chunker, err := parseChunker(o.Chunker)
	if err != nil {
		return nil, err
	}
	rules, err := baseRules(o)
	if err != nil {
		return nil, err
	}
	if o.Workers <= 0 {
		o.Workers = 2 * runtime.GOMAXPROCS(0)
	}
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
	if h.slack == 0 {
		h.slack = DefaultSlack
	}
	if h.captured == nil {
		h.captured = captured
	}
	r := newRun(ctx, b, o, chunker, h)
	tree, metaRoot, err := r.importRoot(dir, rules)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", dir, err)
	}
	return &Result{
		Commit: &snapshot.Commit{
			Tree: tree, Meta: metaRoot, Stats: r.stats, NoXattrs: !r.xattrsSeen, Consistency: snapshot.Live,
			Import: snapshot.ImportInfo{Profile: unixfs.Profile, Chunker: chunker.name},
		},
		Unsettled:  r.notes.sorted(unsettled),
		Skipped:    r.notes.sorted(skipped),
		Uncaptured: slices.Compact(r.notes.sorted(uncaptured)),
		Excluded:   r.excluded.Load(),
	}, nil
}
