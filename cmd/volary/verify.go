package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume/api"
)

func verifyCommand() *cli.Command {
	return command(cli.Command{
		Name:      "verify",
		Usage:     "check that every block of a snapshot is there and sound",
		ArgsUsage: "REF",
		Description: "Reads and checks every block, and names the files that a missing or damaged one belongs to.\n" +
			"With --repair, damaged blocks are dropped from the store: snapshotting the same data again, or importing\n" +
			"an archive that has it, then stores them anew.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "repair", Usage: "drop damaged blocks"},
		},
		Action: verify,
	}, 1, 1)
}

type verifyJSON struct {
	Root    string   `json:"root"`
	OK      bool     `json:"ok"`
	Blocks  uint64   `json:"blocks"` // that are there and sound
	Bytes   uint64   `json:"bytes"`
	Missing []string `json:"missing,omitempty"`
	Damaged []string `json:"damaged,omitempty"`
	Dropped []string `json:"dropped,omitempty"` // damaged blocks that --repair removed
	Paths   []string `json:"paths,omitempty"`   // what cannot be read because of them
}

func verify(c *cli.Context) error {
	mode := readOnly
	if c.Bool("repair") {
		mode = readWrite
	}
	host, err := openHost(c, mode)
	if err != nil {
		return err
	}
	defer host.Close()
	loc, err := resolve(c.Context, host.Host, c.Args().First())
	if err != nil {
		return err
	}
	bar := newProgress(c, "verifying")
	defer bar.finish()
	v := verifier{ctx: c.Context, host: host.Host, kubo: host.home.config.Kubo, far: host.home.config.networked() || len(host.home.config.Gateways) > 0, bad: map[cid.Cid]error{}}
	if err := v.walk(loc.root, bar); err != nil {
		return err
	}
	if c.Bool("repair") {
		if err := v.repair(); err != nil {
			return err
		}
	}
	if len(v.bad) > 0 {
		v.name(loc.root)
	} else if err := v.structure(loc.root); err != nil {
		return err
	}
	v.res.Root, v.res.OK = loc.root.String(), len(v.bad) == 0
	bar.finish()
	if err := outputOf(c).object(v.res, func(w io.Writer) { verifyText(w, v.res) }); err != nil {
		return err
	}
	return v.verdict()
}

type verifier struct {
	ctx  context.Context
	host *api.Host
	kubo string // where the blocks are; empty: in the store
	far  bool   // they may also be elsewhere
	bad  map[cid.Cid]error
	res  verifyJSON
}

func (v *verifier) walk(root cid.Cid, bar *progress) error {
	return snapshot.WalkDAG(v.ctx, snapshot.Local(v.host.Blocks), []cid.Cid{root}, func(c cid.Cid, blk blocks.Block, err error) error {
		switch {
		case err == nil:
			v.res.Blocks, v.res.Bytes = v.res.Blocks+1, v.res.Bytes+uint64(len(blk.RawData()))
			bar.add(uint64(len(blk.RawData())))
		case errors.Is(err, snapshot.ErrNotFound):
			v.bad[c], v.res.Missing = err, append(v.res.Missing, c.String())
		case errors.Is(err, snapshot.ErrDamaged), errors.Is(err, snapshot.ErrFormat):
			v.bad[c], v.res.Damaged = err, append(v.res.Damaged, c.String())
		default:
			return err
		}
		return nil
	})
}

// structure reads what the blocks say: names, directories, rows of the sidecar. Each directory is read once,
// however often the tree has it.
func (v *verifier) structure(root cid.Cid) error {
	s, err := tree.Open(v.ctx, snapshot.Local(v.host.Blocks), root)
	if err != nil {
		return err
	}
	return v.structureBelow(s, s.Root(), map[[2]cid.Cid]bool{})
}

func (v *verifier) structureBelow(s *tree.Snapshot, dir tree.Entry, seen map[[2]cid.Cid]bool) error {
	key := [2]cid.Cid{dir.CID, dir.Entries}
	if !dir.IsDir() || seen[key] {
		return nil
	}
	seen[key] = true
	for e, err := range s.Entries(v.ctx, dir) {
		if err == nil {
			err = v.structureBelow(s, e, seen)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// repair drops the blocks whose bytes are not theirs. A malformed block is what its CID says and stays, and so do those
// of a Kubo daemon: it removes nothing that is pinned.
func (v *verifier) repair() error {
	if v.kubo != "" {
		return nil
	}
	for c, err := range v.bad {
		if !errors.Is(err, snapshot.ErrDamaged) {
			continue
		}
		if err := v.host.Upkeep.Drop(v.ctx, c); err != nil {
			return fmt.Errorf("drop %s: %w", c, err)
		}
		v.res.Dropped = append(v.res.Dropped, c.String())
	}
	slices.Sort(v.res.Dropped)
	return nil
}

// name finds the paths that the bad blocks belong to, as far as the directories above them can be read.
func (v *verifier) name(root cid.Cid) {
	s, err := tree.Open(v.ctx, snapshot.Local(v.host.Blocks), root)
	if err != nil {
		v.res.Paths = []string{"/"}
		return
	}
	v.nameBelow(s, "", s.Root())
}

func (v *verifier) nameBelow(s *tree.Snapshot, path string, e tree.Entry) {
	report := func() { v.res.Paths = append(v.res.Paths, "/"+jsonName(path)) }
	switch {
	case e.CID.Defined() && v.bad[e.CID] != nil:
		report()
	case e.IsDir():
		for child, err := range s.Entries(v.ctx, e) {
			if err != nil {
				report()
				return
			}
			v.nameBelow(s, tree.Join(path, child.Name), child)
		}
	case e.Type == meta.File:
		for chunk, err := range s.Chunks(v.ctx, e) {
			if err != nil || v.bad[chunk.CID] != nil {
				report()
				return
			}
		}
	}
}

func (v *verifier) verdict() error {
	if len(v.bad) == 0 {
		return nil
	}
	n, hint := len(v.bad), "`volary verify --repair` drops damaged blocks; then snapshot the data again, or import an archive that has it"
	if len(v.res.Damaged) == len(v.res.Dropped) {
		hint = "snapshot the data again, or import an archive that has it"
	}
	if v.kubo != "" {
		hint = "`ipfs repo verify --heal` with the Kubo daemon drops damaged blocks and gets them from its peers; or snapshot the data again"
	}
	if v.far && v.kubo == "" && len(v.res.Damaged) == len(v.res.Dropped) {
		hint = "`volary hydrate` gets them from other hosts; or " + hint
	}
	if len(v.res.Damaged) == 0 {
		return fmt.Errorf("%d blocks of %s are missing: %w\n%s", n, v.res.Root, snapshot.ErrNotFound, hint)
	}
	return fmt.Errorf("%d blocks of %s are missing or damaged: %w\n%s", n, v.res.Root, snapshot.ErrDamaged, hint)
}

func verifyText(w io.Writer, j verifyJSON) {
	for _, c := range j.Missing {
		fmt.Fprintf(w, "missing %s\n", c)
	}
	for _, c := range j.Damaged {
		fmt.Fprintf(w, "damaged %s\n", c)
	}
	for _, c := range j.Dropped {
		fmt.Fprintf(w, "dropped %s\n", c)
	}
	for _, p := range j.Paths {
		fmt.Fprintf(w, "cannot be read: %s\n", p)
	}
	if j.OK {
		fmt.Fprintf(w, "%s is whole: %d blocks, %s\n", j.Root, j.Blocks, bytesText(j.Bytes))
	}
}
