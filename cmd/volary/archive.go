package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot/archive"
	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume/api"
)

func exportCommand() *cli.Command {
	return command(cli.Command{
		Name:      "export",
		Usage:     "write a snapshot as a CAR file",
		ArgsUsage: "REF[/PATH]",
		Description: "The archive is CARv1 and holds everything the snapshot needs; `volary import`, `ipfs dag import` and\n" +
			"other IPFS tools read it. With a PATH, it holds that part of the tree, without the sidecar.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` to write; - for standard output"},
		},
		Action: export,
	}, 1, 1)
}

type exportJSON struct {
	Root   string `json:"root"`
	File   string `json:"file"`
	Blocks uint64 `json:"blocks"`
	Bytes  uint64 `json:"bytes"`
}

func export(c *cli.Context) (err error) {
	file := c.String("output")
	if file == "" {
		return usagef("export needs --output, the file to write")
	}
	if file == "-" && c.Bool("json") {
		return usagef("--json cannot be printed to where the archive goes\ngive --output a file")
	}
	host, err := openHost(c, readOnly)
	if err != nil {
		return err
	}
	defer host.Close()
	t, err := openRef(c.Context, host.Host, c.Args().First())
	if err != nil {
		return err
	}
	root := t.root
	if t.path != "" {
		e, err := t.entry(c.Context)
		if err != nil {
			return err
		}
		if !e.CID.Defined() {
			return usagef("%s is a %s, which no tree can hold", quote(t.path), e.Type)
		}
		root = e.CID
	}
	bar := newProgress(c, "exporting")
	defer bar.finish()
	if file == "-" {
		_, err = archive.Export(c.Context, host.Blocks, root, c.App.Writer, bar.blocks)
		return err
	}
	stats, err := exportFile(c.Context, host.Host, root, file, bar)
	if err != nil {
		return err
	}
	bar.finish()
	return outputOf(c).line(exportJSON{root.String(), file, stats.Blocks, stats.Bytes}, "%s", root)
}

// exportFile writes the archive. A file appears whole and durable, or not at all; a pipe or a device is
// written to.
func exportFile(ctx context.Context, host *api.Host, root cid.Cid, file string, bar *progress) (s archive.Stats, err error) {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	if fi, err := os.Stat(file); err == nil && !fi.Mode().IsRegular() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return s, err
		}
		defer f.Close()
		return archive.Export(ctx, host.Blocks, root, f, bar.blocks)
	}
	part := filepath.Join(filepath.Dir(file), ".volary-export-"+rand.Text())
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return s, err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(part)
		}
	}()
	if s, err = archive.Export(ctx, host.Blocks, root, f, bar.blocks); err != nil {
		return s, err
	}
	return s, durable.Publish(f, file)
}

func importCommand() *cli.Command {
	return command(cli.Command{
		Name:      "import",
		Usage:     "take the snapshots in a CAR file",
		ArgsUsage: "FILE",
		Description: "Reads CARv1 and CARv2, of Volary or any other program; - is standard input. Every block is checked, and\n" +
			"the roots are kept once they are known to be whole. Prints the roots' CIDs.",
		Action: importArchive,
	}, 1, 1)
}

type importJSON struct {
	Root   string `json:"root"`
	Commit bool   `json:"commit"` // whether the root is a snapshot's commit
	Blocks uint64 `json:"blocks"` // in the archive
	Bytes  uint64 `json:"bytes"`
}

func importArchive(c *cli.Context) error {
	in := io.Reader(os.Stdin)
	if file := c.Args().First(); file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	host, err := openHost(c, create)
	if err != nil {
		return err
	}
	defer host.Close()
	s, err := host.Sessions.Session(c.Context)
	if err != nil {
		return err
	}
	defer s.Close()
	bar := newProgress(c, "importing")
	defer bar.finish()
	res, err := archive.Import(c.Context, s, in, bar.blocks)
	if err != nil {
		return importError(err)
	}
	if err := s.Sync(c.Context); err != nil {
		return err
	}
	bar.finish()
	out := outputOf(c)
	for _, root := range res.Roots {
		// A root that cannot be opened is kept all the same: it may be part of something larger.
		t, err := tree.Open(c.Context, s, root)
		isCommit := err == nil && t.Commit != nil
		if err := keepImported(c.Context, host.In(s), root, c.Args().First()); err != nil {
			return err
		}
		if err := out.line(importJSON{root.String(), isCommit, res.Blocks, res.Bytes}, "%s", root); err != nil {
			return err
		}
	}
	return nil
}

// keepImported pins a root. What people keep already stays as it is: it may have been made here. That a volume keeps
// it does not count: volumes are removed.
func keepImported(ctx context.Context, host *api.Host, root cid.Cid, file string) error {
	status, err := host.Pins.Status(ctx, root)
	if _, kept := status.Of(""); kept || err != nil {
		return err
	}
	return host.Pins.Add(ctx, pinset.Pin{Root: root, Meta: map[string]string{metaArchive: file}})
}

func importError(err error) error {
	if errors.Is(err, archive.ErrIncomplete) {
		return fmt.Errorf("%w\nnothing refers to what it held; get the whole archive and import it again", err)
	}
	return err
}
