package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/durable"
)

// noteFile is in each directory of changes and says what they are on: enough to make a snapshot of them though no
// database knows of them.
const (
	noteFile    = "overlay.json"
	noteVersion = 1
)

// note is what is in a noteFile.
type note struct {
	Version  int    `json:"version"`
	Volume   string `json:"volume"`
	VolumeID string `json:"volume_id"`
	overlayRecord
}

// readNote returns the note of a directory of changes. The error wraps fs.ErrNotExist if there is none, ErrNewer if
// a newer version wrote it, snapshot.ErrDamaged if it cannot be understood.
func readNote(dir string) (*note, error) {
	path := filepath.Join(dir, noteFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	n := new(note)
	if err := json.Unmarshal(b, n); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, err, snapshot.ErrDamaged)
	}
	switch {
	case n.Version > noteVersion:
		return nil, fmt.Errorf("%s is of version %d, this program knows %d: %w", path, n.Version, noteVersion, ErrNewer)
	case n.Version < 1 || !n.Base.Defined():
		return nil, fmt.Errorf("%s names no base: %w", path, snapshot.ErrDamaged)
	}
	return n, nil
}

// writeNote puts the note of a volume's overlay into its directory, whole and on the disk when it returns.
func (m *Manager) writeNote(r *record) error {
	b, err := json.Marshal(note{noteVersion, r.Name, r.ID, *used(r.Overlay)})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(m.overlayDir(r.Overlay.ID), noteFile), b, 0o600)
}

// checkNote wants the directory of an overlay to be on the base that is recorded, and notes it where an earlier
// version did not.
func (m *Manager) checkNote(r *record) error {
	dir := m.overlayDir(r.Overlay.ID)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the changes of %s are gone: %w\nbring the directory back, or go on from the last commit: "+
			"unmount the volume, then `volary volume discard`", dir, err)
	}
	n, err := readNote(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, snapshot.ErrDamaged):
		return m.writeNote(r)
	case err != nil:
		return err
	case n.Base != r.Overlay.Base && !r.Overlay.Follow: // on which there are no changes
		return fmt.Errorf("the changes in %s are on %s, not on %s: %w", dir, n.Base, r.Overlay.Base, ErrInvalid)
	}
	return nil
}
