package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// eachFile calls f for each regular file below dir, in lexical order.
func eachFile(dir string, f func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return f(path, info)
	})
}

// warm reads everything once.
func warm(dir string) error {
	buf := make([]byte, 1<<20)
	return eachFile(dir, func(path string, _ fs.FileInfo) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
		return err
	})
}

// spaceOf is what a directory takes on disk, in bytes.
func spaceOf(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a daemon's temporary file
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	return sum, err
}

// middleFile is the path below dir of a file neither small nor large: of those of 64 KiB to 1 MiB the one in the
// middle, and if there is none the middle one of all.
func middleFile(dir string) (string, error) {
	var all, some []string
	err := eachFile(dir, func(path string, info fs.FileInfo) error {
		all = append(all, path)
		if info.Size() >= 64<<10 && info.Size() <= 1<<20 {
			some = append(some, path)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if len(some) == 0 {
		some = all
	}
	if len(some) == 0 {
		return "", fmt.Errorf("%s holds no file", dir)
	}
	return filepath.Rel(dir, some[len(some)/2])
}

// same says whether two directories hold the same names, kinds, contents and link targets; posix asks for equal
// modes and modification times of files, and modes of directories, too. It does not of the directories
// themselves: restic leaves the top of a restored sub-tree as it made it.
func same(want, got string, posix bool) error {
	seen := 0
	err := filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		rel, err := filepath.Rel(want, path)
		if err != nil {
			return err
		}
		return sameEntry(path, filepath.Join(got, rel), posix && rel != ".")
	})
	if err != nil {
		return err
	}
	return filepath.WalkDir(got, func(path string, _ fs.DirEntry, err error) error {
		if seen--; seen < 0 {
			return fmt.Errorf("%s is one entry too many", path)
		}
		return err
	})
}

func sameEntry(want, got string, posix bool) error {
	w, err := os.Lstat(want)
	if err != nil {
		return err
	}
	g, err := os.Lstat(got)
	if err != nil {
		return err
	}
	if w.Mode().Type() != g.Mode().Type() {
		return fmt.Errorf("%s is %v, not %v", got, g.Mode(), w.Mode())
	}
	if w.Mode().Type() == fs.ModeSymlink {
		wt, wErr := os.Readlink(want)
		gt, gErr := os.Readlink(got)
		if err := errors.Join(wErr, gErr); err != nil {
			return err
		}
		if wt != gt {
			return fmt.Errorf("%s points to %q, not %q", got, gt, wt)
		}
		return nil
	}
	if posix && w.Mode() != g.Mode() {
		return fmt.Errorf("%s has mode %v, not %v", got, g.Mode(), w.Mode())
	}
	if !w.Mode().IsRegular() {
		return nil
	}
	if posix && !w.ModTime().Equal(g.ModTime()) {
		return fmt.Errorf("%s has time %v, not %v", got, g.ModTime(), w.ModTime())
	}
	return sameContent(want, got)
}

func sameContent(want, got string) error {
	w, err := os.Open(want)
	if err != nil {
		return err
	}
	defer w.Close()
	g, err := os.Open(got)
	if err != nil {
		return err
	}
	defer g.Close()
	wb, gb := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		wn, wErr := io.ReadFull(w, wb)
		gn, gErr := io.ReadFull(g, gb)
		if !bytes.Equal(wb[:wn], gb[:gn]) {
			return fmt.Errorf("%s has other content than %s", got, want)
		}
		if ended(wErr) && ended(gErr) {
			return nil
		}
		if err := errors.Join(wErr, gErr); err != nil {
			return err
		}
	}
}

// ended says whether io.ReadFull came to the end of its file.
func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
