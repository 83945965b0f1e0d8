package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/pinset"
	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/publish"
)

// home is the directory that holds a host's state:
//
//	state.json   version of the state
//	config.toml  settings, written by people
//	identity     the host's private key, libp2p's encoding
//	peer-id      its peer ID
//	namespace    the token of the host's namespace
//	store/       blocks, pins, tags
//	heads.db     where the namespace's volumes are
//	rotation     while its volumes go over to a namespace with another secret: that, and how far it is
//	formerly     IDs of the namespaces that the host's volumes went over from
//	peers        where hosts of the namespace were, for the daemon's next start
//	outbox.db    pins that the cluster was not told yet
//	cache/       blocks of a Kubo daemon elsewhere
//	volary.sock  while a daemon runs
type home struct {
	dir    string
	config config
	state  stateFile
	store  *store.Store // once it is open, as what follows
	remote *remote
	far    *far
	known  *table.Table // once volumes are, as the next one
	told   *publish.Heads

	moving     bool   // its volumes go over to another namespace: nothing else is to be opened
	kuboOfFile string // what config.toml says, whatever flags and environment say
}

// homeVersion is the version of the state directory that this program writes. Before version 2 a snapshot had one pin
// for all who keep it.
const homeVersion = 2

type stateFile struct {
	Version int `json:"version"`
	From    int `json:"from,omitempty"` // the version whose content was not brought up to this one yet
}

// homeDir says where the state is, without looking.
func homeDir(c *cli.Context) (string, error) {
	if c.IsSet("home") {
		if c.String("home") == "" {
			return "", usagef("--home or VOLARY_HOME is empty")
		}
		return filepath.Abs(c.String("home"))
	}
	if os.Geteuid() == 0 {
		return "/var/lib/volary", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "volary"), nil
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", usagef("no place for the state: %v\ngive --home or VOLARY_HOME", err)
	}
	return filepath.Join(user, ".local", "share", "volary"), nil
}

// openHome reads the state directory's own files. Without one it makes it, or says that there is none.
func openHome(c *cli.Context, create bool) (*home, error) {
	dir, err := homeDir(c)
	if err != nil {
		return nil, err
	}
	h := &home{dir: dir, config: defaultConfig(), remote: &remote{}}
	err = h.checkVersion()
	if err == nil {
		return h, h.readConfig(c)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := h.checkBare(); err != nil {
		return nil, err
	}
	if err := h.checkUncut(); err != nil {
		return nil, err
	}
	if !create {
		return nil, worded{fmt.Sprintf("there is no state at %s\nmake a snapshot, or run `volary init`, to begin", dir), fs.ErrNotExist}
	}
	if err := h.readConfig(c); err != nil {
		return nil, err
	}
	made, err := h.create(h.checkUncut)
	if err == nil && !made {
		err = h.readConfig(c)
	}
	return h, err
}

// place is where one path is, seen from another.
type place int

const (
	apart    place = iota
	contains       // it is below
	within         // it is the same, or above
)

// relation says how dir and path lie to each other, symlinks resolved, and if dir contains path, the way there.
func relation(dir, path string) (rel string, where place) {
	resolve := func(p string) string {
		if r, err := filepath.EvalSymlinks(p); err == nil {
			return r
		}
		return p
	}
	outside := func(rel string, err error) bool {
		return err != nil || rel == ".." || strings.HasPrefix(rel, "../")
	}
	dir, path = resolve(dir), resolve(path)
	if rel, err := filepath.Rel(path, dir); !outside(rel, err) {
		return "", within
	}
	rel, err := filepath.Rel(dir, path)
	if outside(rel, err) {
		return "", apart
	}
	return rel, contains
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

func (h *home) checkVersion() error {
	b, err := os.ReadFile(h.path("state.json"))
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	var s stateFile
	if err := json.Unmarshal(b, &s); err != nil || s.Version < 1 {
		return fmt.Errorf("%s does not give a version: %w", h.path("state.json"), store.ErrCorrupt)
	}
	if s.Version > homeVersion {
		return fmt.Errorf("%s is of version %d, this program knows %d: %w", h.dir, s.Version, homeVersion, store.ErrNewer)
	}
	h.state = s
	return nil
}

// checkBare refuses a directory without state.json whose content is not that of one just begun.
func (h *home) checkBare() error {
	if !exists(h.path("store")) {
		return nil
	}
	return fmt.Errorf("%s is missing, but there is a store beside it: %w\nif the store is of this version, write {\"version\":%d} into that file", h.path("state.json"), store.ErrCorrupt, homeVersion)
}

// create makes the directory, unless another process has made it by then; state.json comes last, so that an interrupted
// create is begun again. settle, called before anything of it is made, writes what was chosen.
func (h *home) create(settle func() error) (made bool, _ error) {
	if err := durable.MkdirAll(h.dir, 0o711); err != nil {
		return false, fmt.Errorf("make state directory: %w", err)
	}
	lock, err := os.Open(h.dir)
	if err != nil {
		return false, fmt.Errorf("lock state directory: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return false, fmt.Errorf("lock state directory: %w", err)
	}
	if err := h.checkVersion(); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := settle(); err != nil {
		return false, err
	}
	if _, err := h.peerID(); err != nil {
		return false, err
	}
	return true, h.setState(stateFile{Version: homeVersion})
}

func (h *home) setState(s stateFile) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	h.state = s
	return durable.WriteFile(h.path("state.json"), append(b, '\n'), 0o644)
}

// bringUp brings the content of an earlier version up to this one. Programs of earlier versions refuse the state from
// the first change on; what is interrupted is begun again.
func (h *home) bringUp(ctx context.Context, pins pinset.Set) error {
	if h.state.Version == homeVersion && h.state.From == 0 {
		return nil
	}
	if err := h.setState(stateFile{Version: homeVersion, From: 1}); err != nil {
		return err
	}
	for p, err := range pins.All(ctx) {
		if err != nil {
			return fmt.Errorf("bring the pins up to version %d: %w", homeVersion, err)
		}
		if err := giveToVolume(ctx, pins, p); err != nil {
			return fmt.Errorf("bring the pins up to version %d: %w", homeVersion, err)
		}
	}
	return h.setState(stateFile{Version: homeVersion})
}

// giveToVolume makes a pin that a volume added its own.
func giveToVolume(ctx context.Context, pins pinset.Set, p pinset.Pin) error {
	id := p.Meta[volume.PinVolume]
	if p.Owner != "" || id == "" {
		return nil
	}
	owned := p
	owned.Owner = volume.PinOwner + id
	if err := pins.Add(ctx, owned); err != nil {
		return err
	}
	return pins.Remove(ctx, p.Root, "")
}

// peerID returns the host's peer ID. It is in a file that everybody may read, beside the key, which is the
// owner's; both are made when they are first needed.
func (h *home) peerID() (string, error) {
	b, err := os.ReadFile(h.path("peer-id"))
	if !errors.Is(err, fs.ErrNotExist) {
		return strings.TrimSpace(string(b)), err
	}
	key, err := h.identityKey()
	if err != nil {
		return "", err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return "", err
	}
	return id.String(), durable.WriteFile(h.path("peer-id"), []byte(id.String()+"\n"), 0o644)
}

// identityKey reads the host's key, or makes it.
func (h *home) identityKey() (crypto.PrivKey, error) {
	file := h.path("identity")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		// Of several processes at once, all take what the first has made.
		if err = newIdentity(file); err == nil || errors.Is(err, fs.ErrExist) {
			b, err = os.ReadFile(file)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	key, err := crypto.UnmarshalPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s is not a key: %w", file, store.ErrCorrupt)
	}
	return key, nil
}

func newIdentity(file string) error {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	b, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	return durable.CreateFile(file, b, 0o600)
}
