package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
)

func lsCommand() *cli.Command {
	return command(cli.Command{
		Name:      "ls",
		Usage:     "list what a snapshot holds",
		ArgsUsage: "REF[/PATH]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"R"}, Usage: "list what is below as well"},
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "with modes, owners, sizes and times"},
		},
		Action: list,
	}, 1, 1)
}

// entryJSON is an entry in the output of ls, stat and diff.
type entryJSON struct {
	Path    string    `json:"path"`
	Type    string    `json:"type"`
	CID     string    `json:"cid,omitempty"`
	Size    uint64    `json:"size"`
	Mode    string    `json:"mode"`
	UID     uint32    `json:"uid"`
	GID     uint32    `json:"gid"`
	Mtime   time.Time `json:"mtime"`
	Target  string    `json:"target,omitempty"`
	Sparse  bool      `json:"sparse,omitempty"`
	Device  string    `json:"device,omitempty"`
	Entries uint64    `json:"entries,omitempty"` // directories: entries below, at any depth
}

func newEntryJSON(path string, e tree.Entry) entryJSON {
	j := entryJSON{
		Path: jsonName(path), Type: e.Type.String(), Size: e.Size, Mode: fmt.Sprintf("%04o", e.Mode),
		UID: e.UID, GID: e.GID, Mtime: e.Mtime().UTC(), Target: jsonName(e.Target), Sparse: e.Sparse, Entries: e.Below,
	}
	if e.CID.Defined() {
		j.CID = e.CID.String()
	}
	if e.Type == meta.CharDevice || e.Type == meta.BlockDevice {
		j.Device = fmt.Sprintf("%d:%d", e.Major, e.Minor)
	}
	return j
}

func list(c *cli.Context) error {
	host, err := openHost(c, readOnly)
	if err != nil {
		return err
	}
	defer host.Close()
	t, err := openRef(c.Context, host.Host, c.Args().First())
	if err != nil {
		return err
	}
	top, err := t.entry(c.Context)
	if err != nil {
		return err
	}
	out := outputOf(c)
	w := columns(out.w)
	defer w.Flush()
	show := func(path string, e tree.Entry) error {
		return out.object(newEntryJSON(path, e), func(io.Writer) { listLine(w, path, e, c.Bool("long")) })
	}
	switch {
	case !top.IsDir():
		return show(top.Name, top)
	case c.Bool("recursive"):
		if err := t.bounded(c.Context, host.Host); err != nil {
			return err
		}
		for l, err := range t.Walk(c.Context, t.path, tree.Limits{}) {
			if err != nil {
				return err
			}
			if below := strings.TrimPrefix(strings.TrimPrefix(l.Path, t.path), "/"); below != "" {
				if err := show(below, l.Entry); err != nil {
					return err
				}
			}
		}
	default:
		for e, err := range t.Entries(c.Context, top) {
			if err != nil {
				return err
			}
			if err := show(e.Name, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func listLine(w io.Writer, path string, e tree.Entry, long bool) {
	name := quote(path)
	if e.IsDir() {
		name += "/"
	}
	if !long {
		fmt.Fprintln(w, name)
		return
	}
	if e.Type == meta.Symlink {
		name += " -> " + quote(e.Target)
	}
	fmt.Fprintf(w, "%s\t%d:%d\t%d\t%s\t%s\n", modeText(e.Attr), e.UID, e.GID, e.Size, timeText(e.Mtime()), name)
}

// modeText is a mode as ls(1) prints it.
func modeText(a meta.Attr) string {
	b := []byte("?rwxrwxrwx")
	b[0] = "-dlpscb"[a.Type]
	for i := range 9 {
		if a.Mode&(1<<(8-i)) == 0 {
			b[i+1] = '-'
		}
	}
	for _, s := range []struct {
		bit  uint16
		at   int
		with byte
	}{{meta.Setuid, 3, 's'}, {meta.Setgid, 6, 's'}, {meta.Sticky, 9, 't'}} {
		if a.Mode&s.bit == 0 {
			continue
		}
		if b[s.at] == 'x' {
			b[s.at] = s.with
		} else {
			b[s.at] = s.with - 'a' + 'A'
		}
	}
	return string(b)
}
