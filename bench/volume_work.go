package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// timed is how long f takes, in seconds.
func timed(f func() error) (float64, error) {
	start := time.Now()
	err := f()
	return time.Since(start).Seconds(), err
}

// firstByte opens a file and reads the first byte.
func firstByte(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.ReadFull(f, make([]byte, 1))
	return err
}

// readAll reads a file from its beginning to its end, of which it must have size bytes.
func readAll(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, not %d", path, n, size)
	}
	return err
}

// readRandomly reads so many pages of a file, the same ones each time.
func readRandomly(path string, size int64, reads int) error {
	const page = 4 << 10
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, page)
	for range reads {
		if _, err := f.ReadAt(buf, random.Int64N(size/page)*page); err != nil {
			return err
		}
	}
	return nil
}

// statWalk lists every directory below dir, asks for the attributes of each entry, and counts the entries. It
// takes no longer ways than it must, so that what is measured is the file system.
func statWalk(dir string) (entries int, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	var (
		buf   = make([]byte, 32<<10)
		names []string
		st    unix.Stat_t
	)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return entries, fmt.Errorf("list %s: %w", dir, err)
		}
		if n == 0 {
			return entries, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names[:0])
		for _, name := range names {
			entries++
			if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return entries, fmt.Errorf("stat %s/%s: %w", dir, name, err)
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				continue
			}
			below, err := statWalk(filepath.Join(dir, name))
			entries += below
			if err != nil {
				return entries, err
			}
		}
	}
}

// statNames asks for the attributes of files whose names are known, without listing a directory.
func statNames(dir string, dirs, files int) error {
	var st unix.Stat_t
	for d := range dirs {
		for f := range files {
			if err := unix.Lstat(dir+"/"+dirName(d)+"/"+fileName(f), &st); err != nil {
				return fmt.Errorf("stat %s of %s in %s: %w", fileName(f), dirName(d), dir, err)
			}
		}
	}
	return nil
}

// change gives a file new content of the size it has, or about.
func change(path string, n int) error {
	return os.WriteFile(path, fmt.Appendf(nil, "change %d at %d\n", n, time.Now().UnixNano()), 0o644)
}

// syncNothing is what the disk takes to make one small file durable.
func syncNothing(dir string, n int) error {
	path := filepath.Join(dir, fmt.Sprintf("sync-%d", n))
	if err := change(path, n); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(unix.Syncfs(int(f.Fd())), os.Remove(path))
}
