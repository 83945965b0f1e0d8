package store

import (
	"fmt"
	"os"
	"path/filepath"
)

// here tells whether the directory still has the files that are open: what is written to one that was deleted, or
// replaced by a copy, is not there when the store is opened again.
func (s *Store) here() error {
	path := filepath.Join(s.dir, lockFile)
	held, err := s.lock.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(held, now) {
		return fmt.Errorf("%w: %s was deleted or replaced while it was in use", ErrCorrupt, path)
	}
	for _, name := range []string{formatFile, packsDir, indexDir} {
		if _, err := os.Stat(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return nil
}
