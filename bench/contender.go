package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A contender is one way to keep snapshots.
type contender struct {
	name  string
	posix bool // modes and modification times come back too
	note  string
	open  func(ctx context.Context, dir string) (repository, error)
}

// A repository holds a contender's snapshots in a directory of its own, fresh for each input and round.
//
// Snapshot returns what names the snapshot of src. Restore writes the whole snapshot, and File the one file at
// path (relative to src), to dst, which does not exist. Each is measured by itself. Close ends daemons.
type repository interface {
	Snapshot(ctx context.Context, src string) (id string, u usage, err error)
	Restore(ctx context.Context, id, src, dst string) (usage, error)
	File(ctx context.Context, id, src, path, dst string) (usage, error)
	Close() error
}

// tools are the programs compared, by absolute path.
type tools struct {
	volary, ipfs, restic, kopia string
	versions                    map[string]string
}

// findTools finds the programs where the Makefile builds them. Those of peers must be there; a comparison that
// lacks one would be another comparison.
func findTools(ctx context.Context) (tools, error) {
	t := tools{versions: map[string]string{}}
	for _, p := range []struct {
		path    *string
		where   string
		version string
	}{
		{&t.volary, "bin/volary", "version"},
		{&t.ipfs, ".cache/bin/ipfs", "version"},
		{&t.restic, ".cache/bin/restic", "version"},
		{&t.kopia, ".cache/bin/kopia", "--version"},
	} {
		abs, err := filepath.Abs(p.where)
		if err != nil {
			return t, err
		}
		if _, err := os.Stat(abs); err != nil {
			return t, fmt.Errorf("%w; run it from the top of the repository, as make bench does", err)
		}
		out, err := quietly(exec.CommandContext(ctx, abs, p.version))
		if err != nil {
			return t, err
		}
		*p.path = abs
		line, _, _ := strings.Cut(out, "\n")
		t.versions[filepath.Base(abs)] = regexp.MustCompile(`v?\d+\.\d+\.\d+`).FindString(line)
	}
	return t, nil
}

// contenders is the table of all that are compared; the first is the one that ratios are taken to.
func (t tools) contenders(m *meter) []contender {
	return []contender{
		{name: volaryName, posix: true, open: func(ctx context.Context, dir string) (repository, error) {
			return openVolary(ctx, m, t.volary, dir)
		}},
		{name: ipfsName, note: "no daemon; keeps no modes, owners or times", open: func(ctx context.Context, dir string) (repository, error) {
			return openIPFS(ctx, m, t.ipfs, dir)
		}},
		{name: daemonName, note: "daemon and client together", open: func(ctx context.Context, dir string) (repository, error) {
			return startIPFS(ctx, m, t.ipfs, dir)
		}},
		{name: carName, note: "what the daemon alone takes: the same blocks from files made before, in four requests, and the pin; restored by ipfs get; space has those files too", open: func(ctx context.Context, dir string) (repository, error) {
			return openCarImport(ctx, m, t.ipfs, dir)
		}},
		{name: onKuboName, posix: true, note: "its blocks in an ipfs daemon of the same machine; daemon and client together", open: func(ctx context.Context, dir string) (repository, error) {
			return openVolaryOnKubo(ctx, m, t, dir)
		}},
		{name: resticName, posix: true, note: "compression off; encrypts, which cannot be switched off", open: func(ctx context.Context, dir string) (repository, error) {
			return openRestic(ctx, m, t.restic, dir)
		}},
		{name: kopiaName, posix: true, note: "no compression; encrypts, which cannot be switched off", open: func(ctx context.Context, dir string) (repository, error) {
			return openKopia(ctx, m, t.kopia, dir)
		}},
	}
}

// removeAll removes what may hold directories without write permission.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	walkErr := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return errors.Join(walkErr, os.RemoveAll(dir))
}
