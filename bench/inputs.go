package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// sizes are those of the inputs.
type sizes struct {
	dirs, files int   // (a): directories, and files in each
	big         int64 // (b): bytes
	part        string
}

var (
	fullSizes  = sizes{dirs: 200, files: 100, big: 2 << 30, part: "."}
	quickSizes = sizes{dirs: 20, files: 100, big: 128 << 20, part: "src/cmd"}
)

const smallFile = 4 << 10

// An input is a directory to make snapshots of.
type input struct {
	name, title string
	dir         string
	limits      bool // measure what the machine allows on it as well
	make        func(ctx context.Context, dir string) error
	// change changes one file in a hundred in place and returns what takes the changes back; originals is a
	// directory for it to keep them in. Nil where this step is not asked for.
	change func(dir, originals string) (undo func() error, err error)
}

func inputs(s sizes) []input {
	tree := "the Go toolchain's tree"
	if s.part != "." {
		tree += ", only " + s.part
	}
	return []input{
		{name: "a", title: fmt.Sprintf("%d files of 4 KiB in %d directories", s.dirs*s.files, s.dirs), make: s.makeSmall},
		{name: "b", title: fmt.Sprintf("one file of %d MiB", s.big>>20), make: s.makeBig, limits: true},
		{name: "c", title: tree, make: s.copyGo, change: changeOneInHundred},
	}
}

func (s sizes) makeSmall(ctx context.Context, dir string) error {
	random := rand.NewChaCha8([32]byte{'a'})
	buf := make([]byte, smallFile)
	for d := range s.dirs {
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		for f := range s.files {
			_, _ = random.Read(buf)
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%05d", f)), buf, 0o644); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s sizes) makeBig(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{'b'})
	buf := make([]byte, 1<<20)
	for left := s.big; left > 0; left -= int64(len(buf)) {
		_, _ = random.Read(buf)
		if _, err := f.Write(buf); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return f.Close()
}

func (s sizes) copyGo(ctx context.Context, dir string) error {
	root, err := quietly(exec.CommandContext(ctx, "go", "env", "GOROOT"))
	if err != nil {
		return err
	}
	_, err = quietly(exec.CommandContext(ctx, "cp", "-a", filepath.Join(root, s.part)+"/.", dir))
	return err
}

// changeOneInHundred overwrites some bytes in the middle of a file, or appends some, or renames it, in turns.
func changeOneInHundred(dir, originals string) (undo func() error, err error) {
	var chosen []string
	n := 0
	if err := eachFile(dir, func(path string, _ fs.FileInfo) error {
		if n%100 == 0 {
			chosen = append(chosen, path)
		}
		n++
		return nil
	}); err != nil {
		return nil, err
	}

	undo = func() error {
		var err error
		for i, path := range chosen {
			err = errors.Join(err, os.RemoveAll(renamed(path)), copyFile(original(originals, i), path))
		}
		return errors.Join(err, os.RemoveAll(originals))
	}
	if err := os.Mkdir(originals, 0o755); err != nil {
		return nil, err
	}
	random := rand.NewChaCha8([32]byte{'c'})
	patch := make([]byte, 64)
	for i, path := range chosen {
		if err := copyFile(path, original(originals, i)); err != nil {
			return nil, err
		}
		_, _ = random.Read(patch)
		if err := changeFile(path, i, patch); err != nil {
			return nil, errors.Join(err, undo())
		}
	}
	return undo, nil
}

func changeFile(path string, i int, patch []byte) error {
	if i%4 == 3 {
		return os.Rename(path, renamed(path))
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at := info.Size()
	if i%4 != 2 {
		at /= 2
	}
	if _, err := f.WriteAt(patch, at); err != nil {
		return err
	}
	return f.Close()
}

func renamed(path string) string              { return path + ".renamed" }
func original(originals string, i int) string { return filepath.Join(originals, fmt.Sprint(i)) }

// settle lets the clock move on after a change: whoever trusts times of change must distrust those of this very
// moment, and no user makes a snapshot within it.
func settle() { time.Sleep(1100 * time.Millisecond) }

// copyFile copies a regular file with its mode and time; an existing target is replaced.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	if err := errors.Join(dst.Chmod(info.Mode()), dst.Close()); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}
