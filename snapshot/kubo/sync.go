package kubo

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Sync implements [snapshot.Blocks]: the file system with Options.Repo is synced. Without Options.Repo there is
// nothing to do that Put has not done: Kubo's RPC does not sync.
func (b *Blocks) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil || b.o.Repo == "" {
		return err
	}
	dir, err := os.Open(b.o.Repo)
	if err != nil {
		return fmt.Errorf("sync repository of kubo at %s: %w", b.endpoint, err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("sync repository of kubo at %s: %s: %w", b.endpoint, b.o.Repo, err)
	}
	return ctx.Err()
}
