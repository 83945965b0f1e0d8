package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
)

// minAbbreviation is how many characters of a CID name a kept snapshot, if no other begins with them. All
// commits' CIDs begin with the same seven.
const minAbbreviation = 12

// located is what a ref names: a root, and a path in it.
type located struct {
	root cid.Cid
	path string // slash separated, empty for the root
}

// resolve finds what a ref names: CID[/PATH], /ipfs/CID[/PATH], /ipns/NAME[/PATH], VOLUME[@STATE][/PATH], TAG[/PATH],
// recovered/ID[/PATH], or the beginning of a kept snapshot's CID. Where it can be several it is the first of these;
// volumes and tags are kept from having names in common.
func resolve(ctx context.Context, host *api.Host, ref string) (located, error) {
	if strings.HasPrefix(ref, "/ipns/") {
		return resolveIPNS(ctx, host.Heads, ref)
	}
	rest, isIPFS := strings.CutPrefix(ref, "/ipfs/")
	name, path, _ := strings.Cut(rest, "/")
	path = strings.Trim(path, "/")
	if name == "" {
		return located{}, usagef("%q names no snapshot", ref)
	}
	if name+"/" == volume.Recovered && !isIPFS {
		tags, err := host.Tags.Tags(ctx)
		if err != nil {
			return located{}, err
		}
		id, below, _ := strings.Cut(path, "/")
		if root, ok := tags[volume.Recovered+id]; ok {
			return located{root, strings.Trim(below, "/")}, nil
		}
	}
	if strings.HasSuffix(name+"/", "@"+volume.ForkState) && !isIPFS {
		peer, below, _ := strings.Cut(path, "/")
		name, path = name+"/"+peer, strings.Trim(below, "/")
	}
	root, err := resolveName(ctx, host, name, isIPFS)
	if err != nil {
		return located{}, err
	}
	if isIPFS {
		path, err = ipfsPath(root, ref, path)
	}
	return located{root: root, path: path}, err
}

// resolveIPNS finds what /ipns/NAME[/PATH] names: where the volume is, or what the name's record says.
func resolveIPNS(ctx context.Context, heads api.Heads, ref string) (located, error) {
	text, path, _ := strings.Cut(strings.TrimPrefix(ref, "/ipns/"), "/")
	name, err := ipns.NameFromString(text)
	if err != nil {
		return located{}, usagef("%s is no IPNS name; names of domains are not resolved", quote("/ipns/"+text))
	}
	s, err := heads.Signed(ctx, name.String())
	if err == nil && s.Removed {
		err = fmt.Errorf("/ipns/%s was volume %q, which is removed: %w", name, s.Name, volume.ErrNotFound)
	}
	if err != nil {
		return located{}, err
	}
	loc, err := locate(s)
	loc.path = strings.Trim(loc.path+"/"+strings.Trim(path, "/"), "/")
	return loc, err
}

// locate is where a record says that its name is.
func locate(s api.Signed) (located, error) {
	text, is := strings.CutPrefix(s.Value, "/ipfs/")
	first, path, _ := strings.Cut(text, "/")
	root, err := cid.Decode(first)
	if !is || err != nil {
		return located{}, usagef("/ipns/%s is at %.200q, which is no path of content", s.Volume, s.Value)
	}
	path, err = ipfsPath(root, s.Value, strings.Trim(path, "/"))
	return located{root, path}, err
}

func resolveName(ctx context.Context, host *api.Host, name string, onlyCID bool) (cid.Cid, error) {
	if c, err := cid.Decode(name); err == nil {
		return c, nil
	}
	if onlyCID {
		return cid.Undef, usagef("%q is not a CID", name)
	}
	c, err := host.Volumes.Resolve(ctx, volume.InLocalZone(name))
	if err == nil || strings.Contains(name, "@") || !errors.Is(err, volume.ErrNotFound) {
		return c, err
	}
	hint := removedHint(err)
	tags, err := host.Tags.Tags(ctx)
	if err != nil {
		return cid.Undef, err
	}
	if c, ok := tags[name]; ok {
		return c, nil
	}
	if len(name) >= minAbbreviation {
		return resolveAbbreviation(ctx, host, name, hint)
	}
	return cid.Undef, worded{fmt.Sprintf("%q is neither a CID, a volume nor a tag\n%s", name, hint), fs.ErrNotExist}
}

// removedHint is what to do where no volume was found.
func removedHint(notFound error) string {
	const hint = "see `volary log`, `volary volume ls` and `volary tag`"
	if _, removed, has := strings.Cut(notFound.Error(), "\n"); has {
		return removed + "\n" + hint
	}
	return hint
}

func resolveAbbreviation(ctx context.Context, host *api.Host, prefix, hint string) (cid.Cid, error) {
	found := cid.Undef
	for pin, err := range host.Pins.All(ctx) {
		switch {
		case err != nil:
			return cid.Undef, err
		case !strings.HasPrefix(pin.Root.String(), prefix):
		case found.Defined() && found != pin.Root:
			return cid.Undef, usagef("%q is the beginning of more than one snapshot\ngive more of it", prefix)
		default:
			found = pin.Root
		}
	}
	if !found.Defined() {
		return cid.Undef, worded{fmt.Sprintf("%q is neither a CID, a volume nor a tag, and no kept snapshot begins with it\n%s", prefix, hint), fs.ErrNotExist}
	}
	return found, nil
}

// ipfsPath turns a path below /ipfs/CID into a path in the snapshot. In IPFS a commit is a node whose field
// "tree" links to the files.
func ipfsPath(root cid.Cid, ref, path string) (string, error) {
	if root.Prefix().Codec != cid.DagCBOR || path == "" {
		return path, nil
	}
	field, rest, _ := strings.Cut(path, "/")
	if field != "tree" {
		return "", fmt.Errorf("%s: a commit's files are below its field tree: %w", quote(ref), fs.ErrNotExist)
	}
	return rest, nil
}

// target is a ref that was opened.
type target struct {
	located
	*tree.Snapshot
}

// openRef resolves a ref and opens the snapshot it names.
func openRef(ctx context.Context, host *api.Host, ref string) (target, error) {
	loc, err := resolve(ctx, host, ref)
	if err != nil {
		return target{}, err
	}
	s, err := tree.Open(ctx, host.Blocks, loc.root)
	if err != nil {
		return target{}, err
	}
	return target{loc, s}, nil
}

// entry returns what a ref names in its snapshot.
func (t target) entry(ctx context.Context) (tree.Entry, error) {
	e, err := t.Lookup(ctx, t.path)
	if err != nil {
		return e, fmt.Errorf("%s in %s: %w", quote(t.path), t.root, err)
	}
	return e, nil
}

// bounded refuses a snapshot made elsewhere that is too large to be walked, before anything is done with it.
func (t target) bounded(ctx context.Context, host *api.Host) error {
	own, err := host.Origins.Own(ctx, t.root)
	if err != nil || own {
		return err
	}
	return t.CheckSize(ctx, t.path, tree.Limits{})
}

// isDirArg reports whether an argument that may be a ref or a directory is a directory: it looks like a path,
// or it is no ref and there is such a directory.
func isDirArg(ctx context.Context, host *api.Host, arg string) bool {
	if strings.HasPrefix(arg, "/ipfs/") || strings.HasPrefix(arg, "/ipns/") {
		return false
	}
	if arg == "." || arg == ".." || strings.HasPrefix(arg, "./") || strings.HasPrefix(arg, "../") || strings.HasPrefix(arg, "/") {
		return true
	}
	var usage usageError
	if _, err := resolve(ctx, host, arg); err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &usage) {
		return false
	}
	fi, err := os.Stat(arg)
	return err == nil && fi.IsDir()
}
