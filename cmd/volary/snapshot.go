package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume/api"
)

// Keys of a pin's meta.
const (
	metaSource  = "source"  // directory a snapshot was made from
	metaArchive = "archive" // file it came in
)

func snapshotCommand() *cli.Command {
	return command(cli.Command{
		Name:      "snapshot",
		Usage:     "store a directory and print its CID",
		ArgsUsage: "DIR",
		Description: "Prints the CID of a commit: the directory's content as an IPFS tree, everything POSIX knows beside it,\n" +
			"and its place in a history. The snapshot is durable when the CID is printed, and kept until `volary rm`.\n" +
			"What did not change since the last snapshot is not read again.\n\n" +
			"Files named .volaryignore, in the syntax of .gitignore, say what is left out. A file that changes while\n" +
			"it is read is read again; if it never settles, it is named and the exit code is 8.",
		Flags: append(append(importFlags(), waitFlags()...),
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` for the log"},
			&cli.StringSliceFlag{Name: "label", Aliases: []string{"l"}, Usage: "`KEY=VALUE`; may be repeated"},
			&cli.StringFlag{Name: "tag", Aliases: []string{"t"}, Usage: "tag the snapshot with `NAME`"},
			&cli.StringFlag{Name: "parent", Usage: "`REF` it comes after; default: the last snapshot of DIR on this host"},
			&cli.BoolFlag{Name: "no-parent", Usage: "begin a new history"},
			&cli.BoolFlag{Name: "no-cache", Usage: "read also the files that do not look changed, as after a power cut"},
		),
		Action: makeSnapshot,
	}, 1, 1)
}

// importFlags say how a directory is read; snapshot and diff have them.
func importFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "chunker", Usage: "cut files into blocks by `size-N, rabin-MIN-AVG-MAX or buzhash`; default from config.toml"},
		&cli.StringSliceFlag{Name: "exclude", Aliases: []string{"e"}, Usage: "leave out what matches `PATTERN`, as in .gitignore; may be repeated"},
		&cli.StringSliceFlag{Name: "exclude-from", Usage: "leave out what matches the patterns in `FILE`"},
		&cli.BoolFlag{Name: "no-ignore", Usage: "take .volaryignore for an ordinary file"},
		&cli.BoolFlag{Name: "one-file-system", Aliases: []string{"x"}, Usage: "do not enter mount points"},
	}
}

func importOptions(c *cli.Context, config config) (importer.Options, error) {
	chunker := c.String("chunker")
	if chunker == "" {
		chunker = config.Chunker
	}
	if err := importer.CheckChunker(chunker); err != nil {
		return importer.Options{}, usageError{err.Error()}
	}
	return importer.Options{
		Chunker: chunker, Exclude: c.StringSlice("exclude"), ExcludeFiles: c.StringSlice("exclude-from"),
		NoIgnoreFile: c.Bool("no-ignore"), OneFileSystem: c.Bool("one-file-system"),
	}, nil
}

// excludePattern leaves out what is at a path. A snapshot that held the store it is written to would hold a
// moving part of itself.
func excludePattern(rel string) string {
	escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, ` `, `\ `)
	return "/" + escape.Replace(rel)
}

func makeSnapshot(c *cli.Context) error {
	labels, err := parseLabels(c.StringSlice("label"))
	if err != nil {
		return err
	}
	if !utf8.ValidString(c.String("message")) {
		return usagef("the message is not UTF-8")
	}
	if tag := c.String("tag"); tag != "" {
		if err := checkTag(tag); err != nil {
			return err
		}
	}
	if err := importer.CheckChunker(c.String("chunker")); err != nil {
		return usageError{err.Error()}
	}
	w, err := parseWait(c)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(c.Args().First())
	if err != nil {
		return err
	}
	if err := checkDir(dir); err != nil {
		return err
	}
	host, err := openHost(c, create)
	if err != nil {
		return err
	}
	defer host.Close()
	if err := w.possible(c.Context, host); err != nil {
		return err
	}
	if err := noVolume(c.Context, host.Volumes, c.String("tag")); err != nil {
		return err
	}
	opts, err := importOptions(c, host.home.config)
	if err != nil {
		return err
	}
	rel, where := relation(dir, host.home.dir)
	switch where {
	case within:
		return usagef("%s is the state directory, or in it\na snapshot cannot hold the store that it is written to", quote(dir))
	case contains:
		opts.Exclude = append(opts.Exclude, excludePattern(rel))
		fmt.Fprintf(c.App.ErrWriter, "left out: the state directory %s\n", quote(host.home.dir))
	}
	s, err := host.Sessions.Session(c.Context)
	if err != nil {
		return err
	}
	defer s.Close()
	parents, err := findParents(c, host.Host, dir)
	if err != nil {
		return err
	}
	bar := newProgress(c, "reading")
	defer bar.finish()
	opts.Cache, opts.Progress = s, new(importer.Progress)
	if c.Bool("no-cache") {
		opts.Cache = importer.Forgetful{StatCache: s}
	}
	expected := expectedBytes(c.Context, s, parents)
	bar.watch(func() (uint64, uint64) {
		return opts.Progress.Bytes.Load(), max(expected, opts.Progress.FoundBytes.Load())
	})
	res, err := importer.Import(c.Context, s, dir, opts)
	if err != nil {
		return err
	}
	commit := res.Commit
	commit.Message, commit.Labels = c.String("message"), labels
	root, err := finishCommit(c, host, s, commit, parents, dir)
	if err != nil {
		return err
	}
	if tag := c.String("tag"); tag != "" {
		if err := host.In(s).Tags.Tag(c.Context, tag, root); err != nil {
			return err
		}
	}
	bar.finish()
	if err := reportSnapshot(c, host.Host, root, res); err != nil || !w.replicas {
		return err
	}
	return waitForMade(c, host.Host, root, w.WaitOptions)
}

// finishCommit makes the imported tree a kept snapshot. Its order is the argument that nothing is lost: the
// blocks are durable before the pin speaks of them, the pin is durable before the CID is printed, and the
// session protects the blocks until then.
func finishCommit(c *cli.Context, host *openedHost, s api.Session, commit *snapshot.Commit, parents []cid.Cid, dir string) (cid.Cid, error) {
	ctx := c.Context
	author, err := host.home.peerID()
	if err != nil {
		return cid.Undef, err
	}
	commit.Author, commit.Time, commit.Consistency = author, time.Now().UTC(), snapshot.Live
	err = snapshot.Extend(ctx, s, commit, parents...)
	if err != nil && !c.IsSet("parent") && unreadable(err) {
		fmt.Fprintf(c.App.ErrWriter, "begins a new history, because the last snapshot of this directory cannot be read: %v\n", err)
		err = snapshot.Extend(ctx, s, commit)
	}
	if err != nil {
		return cid.Undef, err
	}
	blk, err := snapshot.EncodeCommit(commit)
	if err != nil {
		return cid.Undef, err
	}
	if err := s.Put(ctx, blk); err != nil {
		return cid.Undef, err
	}
	if err := s.Sync(ctx); err != nil {
		return cid.Undef, err
	}
	in := host.In(s)
	if err := in.Origins.MarkOwn(ctx, blk.Cid()); err != nil {
		return cid.Undef, err
	}
	pin := pinset.Pin{Root: blk.Cid(), Meta: map[string]string{metaSource: dir}}
	return blk.Cid(), in.Pins.Add(ctx, pin)
}

// expectedBytes is what the bar takes for the total before the directory is known: the parent's.
func expectedBytes(ctx context.Context, b snapshot.Blocks, parents []cid.Cid) uint64 {
	if len(parents) == 0 {
		return 0
	}
	s, err := tree.Open(ctx, b, parents[0])
	if err != nil || s.Commit == nil {
		return 0
	}
	return s.Commit.Stats.Bytes
}

// unreadable reports whether an error is about a snapshot's blocks.
func unreadable(err error) bool {
	return errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrDamaged) || errors.Is(err, snapshot.ErrFormat)
}

// findParents returns the snapshot that the new one comes after, if any.
func findParents(c *cli.Context, host *api.Host, dir string) ([]cid.Cid, error) {
	ref := c.String("parent")
	switch {
	case ref != "" && c.Bool("no-parent"):
		return nil, usagef("--parent and --no-parent contradict each other")
	case c.Bool("no-parent"):
		return nil, nil
	case ref != "":
		t, err := openRef(c.Context, host, ref)
		if err != nil {
			return nil, err
		}
		if t.Commit == nil || t.path != "" {
			return nil, usagef("%s is not a snapshot and cannot be a parent", quote(ref))
		}
		return []cid.Cid{t.root}, nil
	}
	var last []cid.Cid
	for pin, err := range host.Pins.All(c.Context) {
		if err != nil {
			return nil, err
		}
		if pin.Meta[metaSource] == dir {
			last = []cid.Cid{pin.Root}
		}
	}
	return last, nil
}

// checkDir says what is wrong with a directory argument before anything is made for it.
func checkDir(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is a file: %w\na snapshot is of a directory", quote(dir), syscall.ENOTDIR)
	}
	return nil
}

func parseLabels(pairs []string) (map[string]string, error) { return parsePairs("label", pairs) }

// parsePairs reads KEY=VALUE arguments; what says what they are.
func parsePairs(what string, pairs []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		// The cli package has put U+FFFD for what is not UTF-8 in a flag that may be repeated.
		if !ok || k == "" || strings.ContainsRune(p, utf8.RuneError) {
			return nil, usagef("%s %q is not KEY=VALUE in UTF-8", what, p)
		}
		if _, twice := labels[k]; twice {
			return nil, usagef("%s %q is given twice", what, k)
		}
		labels[k] = v
	}
	return labels, nil
}

func reportSnapshot(c *cli.Context, host *api.Host, root cid.Cid, res *importer.Result) error {
	j := struct {
		snapshotJSON
		Unsettled []string `json:"unsettled,omitempty"` // files that changed while they were read
	}{snapshotJSON: newSnapshotJSON(root, res.Commit)}
	if err := j.describe(c.Context, host, root); err != nil {
		return err
	}
	for _, path := range res.Unsettled {
		j.Unsettled = append(j.Unsettled, jsonName(path))
		fmt.Fprintf(c.App.ErrWriter, "changed while it was read: %s\n", quote(path))
	}
	if err := outputOf(c).object(j, func(w io.Writer) { fmt.Fprintln(w, root) }); err != nil {
		return err
	}
	if n := len(res.Unsettled); n > 0 {
		return incompleteError{fmt.Sprintf("%d files changed while they were read, again and again; each is in the snapshot as it was last read", n)}
	}
	return nil
}
