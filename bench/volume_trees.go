package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// volumeSizes are those of the second part.
type volumeSizes struct {
	few      int   // files of the smallest snapshot
	dirs     int   // of the largest one
	files    int   // in each directory
	part     int   // directories of it that peers take a snapshot of
	served   int   // directories that peers show
	one      int64 // bytes of the one large file
	reads    int   // random ones
	inserts  int   // transactions of the database
	packages int   // of the module that is built
	commits  int   // in each round
	pins     int   // that are listed
}

var (
	fullVolumes = volumeSizes{few: 100, dirs: 1000, files: 1000, part: 100, served: 20, one: 1 << 30,
		reads: 200_000, inserts: 200, packages: 40, commits: 7, pins: 10_000}
	quickVolumes = volumeSizes{few: 100, dirs: 20, files: 1000, part: 2, served: 2, one: 64 << 20,
		reads: 20_000, inserts: 20, packages: 4, commits: 2, pins: 500}
)

// The trees, by name.
const (
	fewTree    = "few"
	manyTree   = "many"
	singleTree = "single" // one directory, as large as each of the many
	servedTree = "served"
	oneTree    = "one"
	moduleTree = "module"
)

// partDir is the directory of the many files that has the part for peers.
const partDir = "part"

// A tree is a directory on ext4 and the snapshot of it.
type tree struct {
	dir     string
	entries int    // below dir
	root    string // empty until a snapshot was made
}

// tree makes a tree when it is first needed.
func (p *volumePlan) tree(ctx context.Context, name string) (*tree, error) {
	if t := p.trees[name]; t != nil {
		return t, nil
	}
	t := &tree{dir: filepath.Join(p.work, "tree-"+name)}
	progress("make tree: %s", name)
	var err error
	switch name {
	case oneTree:
		t.entries = 1
		err = sizes{big: p.sizes.one}.makeBig(ctx, t.dir)
	case moduleTree:
		err = makeModule(t.dir, p.sizes.packages)
	default:
		t.dir, err = p.image(ctx, name)
		if err == nil {
			t.entries, err = p.makeFiles(ctx, name, t.dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make tree %s: %w", name, err)
	}
	p.trees[name] = t
	return t, nil
}

// snapshot is a tree with its snapshot.
func (p *volumePlan) snapshot(ctx context.Context, name string) (*tree, error) {
	h, err := p.volary(ctx)
	if err != nil {
		return nil, err
	}
	t, err := p.tree(ctx, name)
	if err != nil || t.root != "" {
		return t, err
	}
	progress("make snapshot: %s", name)
	t.root, err = h.run(ctx, "snapshot", t.dir)
	return t, err
}

// image makes an ext4 of its own for a tree of many files, and mounts it: taking it away costs nothing, and the
// files, which fit into their inodes, need no other space.
func (p *volumePlan) image(ctx context.Context, name string) (dir string, err error) {
	file, dir := filepath.Join(p.work, name+".img"), filepath.Join(p.work, "tree-"+name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	inodes := 1000 + p.sizes.dirs*(p.sizes.files+1)*11/10
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return "", err
	}
	if err := os.Truncate(file, 256<<20+int64(inodes)*2048); err != nil {
		return "", err
	}
	if _, err := quietly(exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-O", "inline_data,^has_journal", "-m", "0",
		"-N", fmt.Sprint(inodes), "-E", "nodiscard", file)); err != nil {
		return "", err
	}
	p.undo = append(p.undo, func() error { return errors.Join(detachBelow(dir), os.RemoveAll(file)) })
	return dir, mountImage(ctx, file, dir)
}

func mountImage(ctx context.Context, file, dir string) error {
	if _, err := quietly(exec.CommandContext(ctx, "mount", "-o", "loop,noatime", file, dir)); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// remountImage forgets what is in memory of an image's files.
func (p *volumePlan) remountImage(ctx context.Context, name string) error {
	dir := p.trees[name].dir
	if _, err := quietly(exec.CommandContext(ctx, "umount", dir)); err != nil {
		return err
	}
	return mountImage(ctx, filepath.Join(p.work, name+".img"), dir)
}

// makeFiles fills a tree of small files and returns how many entries it has.
func (p *volumePlan) makeFiles(ctx context.Context, name, dir string) (entries int, err error) {
	switch name {
	case fewTree:
		return p.sizes.few, fillDir(dir, 0, p.sizes.few)
	case singleTree:
		return p.sizes.files + 1, fillDir(filepath.Join(dir, dirName(0)), 0, p.sizes.files)
	case servedTree:
		return p.sizes.served * (p.sizes.files + 1), p.fillDirs(ctx, dir, 0, p.sizes.served)
	case manyTree:
		err := p.fillDirs(ctx, filepath.Join(dir, partDir), 0, p.sizes.part)
		return 1 + p.sizes.dirs*(p.sizes.files+1), errors.Join(err, p.fillDirs(ctx, dir, p.sizes.part, p.sizes.dirs))
	}
	return 0, fmt.Errorf("there is no tree %q", name)
}

// fillDirs makes the directories of numbers from up to to, two at a time.
func (p *volumePlan) fillDirs(ctx context.Context, dir string, from, to int) error {
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Go(func() {
			for d := from + i; d < to && errs[i] == nil && ctx.Err() == nil; d += len(errs) {
				errs[i] = fillDir(filepath.Join(dir, dirName(d)), d, p.sizes.files)
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

func fillDir(dir string, number, files int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for f := range files {
		if err := os.WriteFile(filepath.Join(dir, fileName(f)), fmt.Appendf(nil, "file %d of %d\n", f, number), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func dirName(d int) string  { return fmt.Sprintf("d%04d", d) }
func fileName(f int) string { return fmt.Sprintf("f%05d", f) }

// makeModule makes a Go module of so many packages and a program that uses all of them.
func makeModule(dir string, packages int) error {
	write := func(text string, path ...string) error {
		to := filepath.Join(append([]string{dir}, path...)...)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, []byte(text), 0o644)
	}
	imports, calls := "", ""
	for i := range packages {
		name := fmt.Sprintf("p%02d", i)
		for file := range 4 {
			text := "package " + name + "\n\nimport \"fmt\"\n"
			for f := range 20 {
				text += fmt.Sprintf("\nfunc F%d_%d(n int) string {\n\tm := map[string]int{}\n\tfor i := range n {\n\t\tm[fmt.Sprint(i*%d)] += i\n\t}\n\treturn fmt.Sprintf(\"%%d %%v\", n, m)\n}\n", file, f, i+f)
			}
			if err := write(text, name, fmt.Sprintf("f%d.go", file)); err != nil {
				return err
			}
		}
		imports += fmt.Sprintf("\t\"example.org/m/%s\"\n", name)
		calls += fmt.Sprintf("\tprintln(%s.F0_0(3), %s.F3_19(4))\n", name, name)
	}
	return errors.Join(
		write("module example.org/m\n\ngo 1.22\n", "go.mod"),
		write("package main\n\nimport (\n"+imports+")\n\nfunc main() {\n"+calls+"}\n", "main.go"))
}
