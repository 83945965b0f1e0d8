package importer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
)

// memory is a store that copies what it is given, and a stat cache.
type memory struct {
	mu       sync.Mutex
	blocks   map[cid.Cid]blocks.Block
	stats    map[string]StatRecord
	lost     map[cid.Cid]bool // roots that Adopt denies
	trusting bool             // Adopt says yes, and SaveStat does not ask
}

func newMemory() *memory {
	return &memory{blocks: map[cid.Cid]blocks.Block{}, stats: map[string]StatRecord{}, lost: map[cid.Cid]bool{}}
}

var (
	_ snapshot.Blocks = (*memory)(nil)
	_ StatCache       = (*memory)(nil)
)

func (m *memory) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.blocks[c]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("get %s: %w", c, snapshot.ErrNotFound)
}

func (m *memory) Has(_ context.Context, cs ...cid.Cid) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	has := make([]bool, len(cs))
	for i, c := range cs {
		_, has[i] = m.blocks[c]
	}
	return has, nil
}

func (m *memory) Put(ctx context.Context, bs ...blocks.Block) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range bs {
		if _, ok := m.blocks[b.Cid()]; ok {
			continue
		}
		c, err := blocks.NewBlockWithCid(append([]byte(nil), b.RawData()...), b.Cid())
		if err != nil {
			return err
		}
		m.blocks[b.Cid()] = c
	}
	return nil
}

func (m *memory) Sync(context.Context) error { return nil }

func (m *memory) LoadStat(_ context.Context, key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats[string(key)].Value, nil
}

func (m *memory) SaveStat(ctx context.Context, recs []StatRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range recs {
		for _, c := range r.Roots {
			if _, ok := m.blocks[c]; !ok && !m.trusting {
				return fmt.Errorf("stat record %x is saved before its root %s", r.Key, c)
			}
		}
		m.stats[string(r.Key)] = r
	}
	return nil
}

func (m *memory) Adopt(_ context.Context, roots []cid.Cid) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := make([]bool, len(roots))
	for i, c := range roots {
		_, ok := m.blocks[c]
		kept[i] = (ok || m.trusting) && !m.lost[c]
	}
	return kept, nil
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func goroot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func imported(t testing.TB, m *memory, dir string, o Options) *Result {
	t.Helper()
	r, err := importDir(t.Context(), m, dir, o, hooks{slack: testSlack})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheSameTreeTwiceIsTheSameSnapshot(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	write(t, filepath.Join(dir, "a/b"), "x")
	first := imported(t, m, dir, Options{}).Commit
	second := imported(t, m, dir, Options{Cache: m}).Commit
	if first.Tree != second.Tree || first.Meta != second.Meta {
		t.Errorf("%+v, then %+v", first, second)
	}
}
