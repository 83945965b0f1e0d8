package mounttest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/restorer"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/volume"
)

// Copies is a Mounter without a kernel: a mount is a copy of the base, which stays when it is unmounted. It knows no
// difference between the base and changes: what patterns exclude is in none of its snapshots. It must be made by
// NewCopies.
type Copies struct {
	mu         sync.Mutex
	mounted    map[string]bool
	busy       error
	remembered bool
}

var (
	_ volume.Mounter  = (*Copies)(nil)
	_ volume.Salvager = (*Copies)(nil)
	_ volume.Follower = (*Copies)(nil)
)

// NewCopies returns a Mounter that has nothing mounted.
func NewCopies() *Copies { return &Copies{mounted: map[string]bool{}} }

// KeepBusy makes Unmount of what is mounted fail with an error, until it is nil.
func (c *Copies) KeepBusy(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = err
}

// Remembered reports whether the last Snapshot was given a cache that knows what the one before saved.
func (c *Copies) Remembered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remembered
}

// Path implements [volume.Mounter].
func (c *Copies) Path(dir string) string { return filepath.Join(dir, "copy") }

// Mount implements [volume.Mounter].
func (c *Copies) Mount(ctx context.Context, base *tree.Snapshot, dir string, o volume.MountOptions) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := os.Stat(c.Path(dir)); errors.Is(err, fs.ErrNotExist) {
		if _, err := restorer.Restore(ctx, base, "", c.Path(dir), restorer.Options{}); err != nil {
			return err
		}
	}
	c.mounted[dir] = true
	return nil
}

// Follow implements [volume.Follower]: the copy is made anew.
func (c *Copies) Follow(ctx context.Context, s *tree.Snapshot, dir string) ([]cid.Cid, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mounted[dir] {
		return nil, fmt.Errorf("%s is not mounted", dir)
	}
	fresh := c.Path(dir) + ".new"
	if _, err := restorer.Restore(ctx, s, "", fresh, restorer.Options{}); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(c.Path(dir)); err != nil {
		return nil, err
	}
	return []cid.Cid{s.CID}, os.Rename(fresh, c.Path(dir))
}

// Unmount implements [volume.Mounter].
func (c *Copies) Unmount(_ context.Context, dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mounted[dir] && c.busy != nil {
		return c.busy
	}
	delete(c.mounted, dir)
	return nil
}

// Snapshot implements [volume.Mounter].
func (c *Copies) Snapshot(ctx context.Context, s volume.Session, base *tree.Snapshot, dir string, o importer.Options) (*snapshot.Commit, []string, error) {
	if _, err := os.Stat(c.Path(dir)); errors.Is(err, fs.ErrNotExist) {
		same := *base.Commit
		return &same, nil, nil
	}
	probe := importer.StatRecord{Key: []byte("probe of " + dir), Value: []byte("saved")}
	known, err := o.Cache.LoadStat(ctx, probe.Key)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	c.remembered = known != nil
	c.mu.Unlock()
	if err := o.Cache.SaveStat(ctx, []importer.StatRecord{probe}); err != nil {
		return nil, nil, err
	}
	r, err := importer.Import(ctx, s, c.Path(dir), o)
	if err != nil {
		return nil, nil, err
	}
	return r.Commit, r.Unsettled, nil
}

// Salvage implements [volume.Salvager].
func (c *Copies) Salvage(ctx context.Context, s volume.Session, dir string, o importer.Options) (*snapshot.Commit, []string, error) {
	if _, err := os.Stat(c.Path(dir)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	r, err := importer.Import(ctx, s, c.Path(dir), o)
	if err != nil {
		return nil, nil, err
	}
	return r.Commit, r.Unsettled, nil
}
