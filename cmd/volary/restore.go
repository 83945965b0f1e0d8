package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
)

func restoreCommand() *cli.Command {
	return command(cli.Command{
		Name:      "restore",
		Usage:     "put a snapshot, or a part of one, into a directory",
		ArgsUsage: "REF[/PATH] DIR",
		Description: "DIR is made if it is missing. What is equal in it already is not touched, what differs is replaced, and\n" +
			"what the snapshot does not have stays unless --delete is given. An interrupted restore is finished by\n" +
			"running it again.\n\n" +
			"A snapshot that was not made on this host is restored without setuid and setgid bits, devices and\n" +
			"trusted.* and security.* attributes, unless --privileged is given.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "delete", Usage: "remove what the snapshot does not have"},
			&cli.BoolFlag{Name: "privileged", Usage: "leave nothing out of a snapshot made elsewhere"},
		},
		Action: restore,
	}, 2, 2)
}

type restoreJSON struct {
	Root      string         `json:"root"`
	Path      string         `json:"path,omitempty"`
	Dir       string         `json:"dir"`
	Made      uint64         `json:"made"`
	Replaced  uint64         `json:"replaced"`
	Adjusted  uint64         `json:"adjusted"` // only attributes were another
	Unchanged uint64         `json:"unchanged"`
	Removed   uint64         `json:"removed"`
	Extra     uint64         `json:"extra"` // not in the snapshot, and left
	Bytes     uint64         `json:"bytes"` // of content written
	Omitted   []omissionJSON `json:"omitted,omitempty"`
}

type omissionJSON struct {
	Kind    string   `json:"kind"`
	Foreign bool     `json:"foreign"` // by intent, because the snapshot was made elsewhere
	Count   uint64   `json:"count"`
	Paths   []string `json:"paths"` // the first few
}

func restore(c *cli.Context) error {
	host, err := openHost(c, readOnly)
	if err != nil {
		return err
	}
	defer host.Close()
	t, err := openRef(c.Context, host.Host, c.Args().First())
	if err != nil {
		return err
	}
	if _, err := t.entry(c.Context); err != nil {
		return err
	}
	own, err := host.Origins.Own(c.Context, t.root)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(c.Args().Get(1))
	if err != nil {
		return err
	}
	if err := sparesState(c, t, host.home.dir, dir); err != nil {
		return err
	}
	if err := t.bounded(c.Context, host.Host); err != nil {
		return err
	}
	bar := newProgress(c, "restoring")
	defer bar.finish()
	o := restorer.Options{Delete: c.Bool("delete"), Foreign: !own, Privileged: c.Bool("privileged"), Progress: new(restorer.Progress)}
	expected := restoredBytes(c.Context, t)
	bar.watch(func() (uint64, uint64) { return o.Progress.Bytes.Load(), expected })
	report, err := restorer.Restore(c.Context, t.Snapshot, t.path, dir, o)
	if err != nil {
		return err
	}
	bar.finish()
	j := newRestoreJSON(t, dir, report)
	for _, om := range report.Omitted {
		fmt.Fprintln(c.App.ErrWriter, omissionText(om))
	}
	return outputOf(c).object(j, func(io.Writer) {
		fmt.Fprintf(c.App.ErrWriter, "restored into %s: %d made, %d replaced, %d adjusted, %d unchanged, %d removed; %s written\n",
			quote(dir), j.Made, j.Replaced, j.Adjusted, j.Unchanged, j.Removed, bytesText(j.Bytes))
	})
}

// sparesState refuses a restore that would write over the state it is made from, or remove it.
func sparesState(c *cli.Context, t target, home, dir string) error {
	rel, where := relation(dir, home)
	switch {
	case where == within:
		return usagef("%s is the state directory, or in it\nchoose another directory", quote(dir))
	case where == contains && c.Bool("delete"):
		return usagef("%s holds the state directory %s, which --delete would remove\nrestore without --delete, or move the state", quote(dir), quote(home))
	case where == contains:
		_, err := t.Lookup(c.Context, tree.Join(t.path, rel))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil
		}
		if err == nil {
			err = usagef("the snapshot has something at %s, where the state directory is\nchoose another directory", quote(rel))
		}
		return err
	}
	return nil
}

// restoredBytes is the total for the bar, where it is known without a walk.
func restoredBytes(ctx context.Context, t target) uint64 {
	if t.Commit != nil && t.path == "" {
		return t.Commit.Stats.Bytes
	}
	if e, err := t.entry(ctx); err == nil {
		return e.Size
	}
	return 0
}

func newRestoreJSON(t target, dir string, r *restorer.Report) restoreJSON {
	j := restoreJSON{
		Root: t.root.String(), Path: jsonName(t.path), Dir: jsonName(dir),
		Made: r.Made, Replaced: r.Replaced, Adjusted: r.Adjusted, Unchanged: r.Unchanged,
		Removed: r.Removed, Extra: r.Extra, Bytes: r.Bytes,
	}
	for _, om := range r.Omitted {
		o := omissionJSON{Kind: string(om.Kind), Foreign: om.Foreign, Count: om.Count}
		for _, p := range om.Paths {
			o.Paths = append(o.Paths, jsonName(p))
		}
		j.Omitted = append(j.Omitted, o)
	}
	return j
}

func omissionText(om restorer.Omission) string {
	names := make([]string, len(om.Paths))
	for i, p := range om.Paths {
		names[i] = quote(p)
	}
	if int(om.Count) > len(names) {
		names = append(names, "…")
	}
	why := "not permitted"
	if om.Foreign {
		why = "the snapshot was made elsewhere; --privileged restores it"
	}
	return fmt.Sprintf("left out: %s of %d entries (%s): %s", om.Kind, om.Count, strings.Join(names, ", "), why)
}
