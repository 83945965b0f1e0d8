package main

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/volary/volary/volume/docker/dockertest"
)

// dataset is many files, the same ones in each run.
type dataset struct {
	parts, dirs, files int // directories at the top, directories in each, files in each of those
	size               int // of a file in bytes
}

// all is how many files it has.
func (d dataset) all() int { return d.parts * d.dirs * d.files }

// bytes is how many they have.
func (d dataset) bytes() int64 { return int64(d.all()) * int64(d.size) }

// path is where the i-th file is.
func (d dataset) path(i int) string {
	dir := i / d.files
	return fmt.Sprintf("p%02d/d%02d/f%04d", dir/d.dirs, dir%d.dirs, i%d.files)
}

// fill makes what is in the i-th file.
func (d dataset) fill(buf []byte, i int) {
	var seed [32]byte
	copy(seed[:], d.path(i))
	_, _ = rand.NewChaCha8(seed).Read(buf)
}

// sum is the SHA-256 of the i-th file.
func (d dataset) sum(i int) string {
	buf := make([]byte, d.size)
	d.fill(buf, i)
	return fmt.Sprintf("%x", sha256.Sum256(buf))
}

// write makes one part of the dataset below a directory.
func (d dataset) write(s *stage, at string, part int) {
	buf := make([]byte, d.size)
	each := d.dirs * d.files
	for i := part * each; i < (part+1)*each; i++ {
		path := filepath.Join(at, d.path(i))
		if i%d.files == 0 {
			s.must(os.MkdirAll(filepath.Dir(path), 0o755))
			s.must(s.ctx.Err())
		}
		d.fill(buf, i)
		s.must(os.WriteFile(path, buf, 0o644))
	}
}

// store has a host store the dataset, and returns its CID and the directory that its first part was written to. It is
// written into a volume part by part, so that the disk never has all of it twice.
func (d dataset) store(s *stage, on *dockertest.Engine) (cid, plain string) {
	const name = "dataset"
	plain = filepath.Join(on.Dir, "plain")
	on.Volary("volume", "create", name)
	for part := range d.parts {
		at := plain
		if part > 0 {
			at = filepath.Join(on.Dir, "part")
		}
		d.write(s, at, part)
		on.Do("cp", "-r", at+"/.", on.Volary("volume", "mount", name))
		cid = on.Volary("volume", "umount", name)
		if part > 0 {
			s.must(os.RemoveAll(at))
		}
		progress("%d of %d parts of the dataset are stored", part+1, d.parts)
	}
	return cid, plain
}
