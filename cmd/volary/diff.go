package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/diff"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume/api"
)

func diffCommand() *cli.Command {
	return command(cli.Command{
		Name:      "diff",
		Usage:     "show what differs between two snapshots, or a snapshot and a directory",
		ArgsUsage: "REF|DIR REF|DIR",
		Description: "Prints a line for each difference, from the first to the second: + added, - removed, M content changed,\n" +
			"T became something of another kind, m only metadata changed. The exit code is 1 if there are any.\n" +
			"An argument that begins with /, ./ or ../ is a directory. Reading a directory stores nothing.",
		Flags: append(importFlags(),
			&cli.BoolFlag{Name: "ignore-mtime", Usage: "leave out what differs in its mtime alone"}),
		Action: showDiff,
	}, 2, 2)
}

type changeJSON struct {
	Path   string     `json:"path"`
	Change string     `json:"change"` // added, removed, type, content, metadata
	Fields []string   `json:"fields,omitempty"`
	Before *entryJSON `json:"before,omitempty"`
	After  *entryJSON `json:"after,omitempty"`
}

func showDiff(c *cli.Context) error {
	host, err := openHost(c, readOnly)
	if err != nil {
		return err
	}
	defer host.Close()
	s, err := host.Sessions.Session(c.Context)
	if err != nil {
		return err
	}
	defer s.Close()
	a, b, err := openSides(c, host, s)
	if err != nil {
		return err
	}
	return printDiff(c, a, b)
}

// printDiff prints what makes b of a.
func printDiff(c *cli.Context, a, b *tree.Snapshot) error {
	out, differ := outputOf(c), false
	for change, err := range diff.Diff(c.Context, a, b, tree.Limits{}) {
		if err != nil {
			return err
		}
		if c.Bool("ignore-mtime") && change.Kind == diff.Metadata && onlyMtime(change.Fields) {
			continue
		}
		differ = true
		if err := out.line(newChangeJSON(change), "%s", changeText(change)); err != nil {
			return err
		}
	}
	if differ {
		return errDiffer
	}
	return nil
}

func onlyMtime(fields []diff.Field) bool { return len(fields) == 1 && fields[0] == diff.Mtime }

// openSides opens both arguments. A directory is cut into blocks as the snapshot beside it was.
func openSides(c *cli.Context, host *openedHost, s api.Session) (a, b *tree.Snapshot, err error) {
	var sides [2]*tree.Snapshot
	chunker := ""
	for i, arg := range c.Args().Slice() {
		if isDirArg(c.Context, host.Host, arg) {
			continue
		}
		t, err := openRef(c.Context, host.Host, arg)
		if err != nil {
			return nil, nil, err
		}
		if err := t.bounded(c.Context, host.Host); err != nil {
			return nil, nil, err
		}
		if sides[i], err = wholeTree(c.Context, s, t); err != nil {
			return nil, nil, err
		}
		if t.Commit != nil {
			chunker = t.Commit.Import.Chunker
		}
	}
	for i, arg := range c.Args().Slice() {
		if sides[i] == nil {
			if sides[i], err = readDir(c, host.home.config, s, arg, chunker); err != nil {
				return nil, nil, err
			}
		}
	}
	return sides[0], sides[1], nil
}

// wholeTree is the snapshot a ref names. A part of one is compared as the plain tree it is.
func wholeTree(ctx context.Context, b snapshot.Blocks, t target) (*tree.Snapshot, error) {
	if t.path == "" {
		return t.Snapshot, nil
	}
	e, err := t.entry(ctx)
	if err != nil {
		return nil, err
	}
	if !e.IsDir() {
		return nil, usagef("%s is a %s, not a directory\ncompare files with `volary cat` and diff(1)", quote(t.path), e.Type)
	}
	return tree.Open(ctx, b, e.CID)
}

// readDir makes a snapshot of a directory that is in memory and nowhere else.
func readDir(c *cli.Context, config config, s api.Session, dir, chunker string) (*tree.Snapshot, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	opts, err := importOptions(c, config)
	if err != nil {
		return nil, err
	}
	if c.String("chunker") == "" && chunker != "" {
		opts.Chunker = chunker
	}
	bar := newProgress(c, "reading")
	defer bar.finish()
	opts.Cache, opts.Progress = recall{s}, new(importer.Progress)
	bar.watch(func() (uint64, uint64) { return opts.Progress.Bytes.Load(), opts.Progress.FoundBytes.Load() })
	memory := diff.NewOverlay(s)
	res, err := importer.Import(c.Context, memory, dir, opts)
	if err != nil {
		return nil, err
	}
	res.Commit.Time, res.Commit.Sequence = time.Now(), 1
	blk, err := snapshot.EncodeCommit(res.Commit)
	if err != nil {
		return nil, err
	}
	if err := memory.Put(c.Context, blk); err != nil {
		return nil, err
	}
	return tree.Open(c.Context, memory, blk.Cid())
}

// recall is a stat cache that remembers nothing new: what is read for a comparison is not stored.
type recall struct{ importer.StatCache }

func (recall) SaveStat(context.Context, []importer.StatRecord) error { return nil }

func newChangeJSON(ch diff.Change) changeJSON {
	j := changeJSON{Path: jsonName(ch.Path), Change: string(ch.Kind)}
	for _, f := range ch.Fields {
		j.Fields = append(j.Fields, string(f))
	}
	for _, side := range []struct {
		from *tree.Entry
		to   **entryJSON
	}{{ch.Before, &j.Before}, {ch.After, &j.After}} {
		if side.from != nil {
			e := newEntryJSON(ch.Path, *side.from)
			*side.to = &e
		}
	}
	return j
}

var changeSigns = map[diff.Kind]string{
	diff.Added: "+", diff.Removed: "-", diff.Type: "T", diff.Content: "M", diff.Metadata: "m",
}

func changeText(ch diff.Change) string {
	path := quote(ch.Path)
	if ch.Path == "" {
		path = "."
	}
	fields := ch.Fields
	if ch.Kind == diff.Content {
		// That its mtime is another is the rule.
		fields = slices.DeleteFunc(slices.Clone(fields), func(f diff.Field) bool { return f == diff.Mtime })
	}
	if ch.Kind == diff.Type || len(fields) == 0 {
		return fmt.Sprintf("%s %s", changeSigns[ch.Kind], path)
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = string(f)
	}
	return fmt.Sprintf("%s %s (%s)", changeSigns[ch.Kind], path, strings.Join(names, ", "))
}
