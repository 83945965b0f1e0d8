package kubo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Sync implements [snapshot.Blocks]: the file system with the daemon's repository is synced. If that is not on this
// machine there is nothing to do that Put has not done: Kubo's RPC does not sync.
func (b *Blocks) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	repo, err := b.repository(ctx)
	if err != nil || repo == "" {
		return err
	}
	dir, err := os.Open(repo)
	if err != nil {
		return fmt.Errorf("sync repository of kubo at %s: %w", b.endpoint, err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("sync repository of kubo at %s: %s: %w", b.endpoint, repo, err)
	}
	return ctx.Err()
}

// repository is the directory of the daemon's repository if it is on this machine. The daemon is asked once.
func (b *Blocks) repository(ctx context.Context) (string, error) {
	if b.o.Repo != "" || !b.o.Near {
		return b.o.Repo, nil
	}
	b.repoMu.Lock()
	defer b.repoMu.Unlock()
	if b.repo != nil {
		return *b.repo, nil
	}
	repo, err := b.askRepository(ctx)
	if err != nil {
		return "", b.fault("ask for the repository", err)
	}
	// A daemon in a container, or behind a tunnel, has it elsewhere.
	if st, err := os.Stat(repo); err != nil || !st.IsDir() || !filepath.IsAbs(repo) {
		repo = ""
	}
	b.repo = &repo
	return repo, nil
}

// askRepository asks for the environment first: repo/stat counts all blocks before it says where they are, and with
// size-only says nothing of it.
func (b *Blocks) askRepository(ctx context.Context) (string, error) {
	var sys struct {
		Environment struct {
			Path string `json:"IPFS_PATH"`
		} `json:"environment"`
	}
	if err := b.api.Request("diag/sys").Exec(ctx, &sys); err == nil && filepath.IsAbs(sys.Environment.Path) {
		return sys.Environment.Path, nil
	}
	var stat struct{ RepoPath string }
	err := b.api.Request("repo/stat").Exec(ctx, &stat)
	return stat.RepoPath, err
}
