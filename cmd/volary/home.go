package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/BurntSushi/toml"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/store"
)

// home is the directory that holds a host's state:
//
//	state.json   version of the state
//	config.toml  settings, written by people
//	identity     the host's private key, libp2p's encoding
//	store/       blocks, pins, tags
//	volary.sock  while a daemon runs
type home struct {
	dir    string
	config config
}

// homeVersion is the version of the state directory that this program writes.
const homeVersion = 1

type stateFile struct {
	Version int `json:"version"`
}

// config is what config.toml can say. A key it does not have is the default; an unknown key is refused.
type config struct {
	Chunker     string `toml:"chunker" json:"chunker"`           // of snapshots, such as size-1048576
	SocketGroup string `toml:"socket_group" json:"socket_group"` // group that may use the daemon's socket; empty: the daemon's own
}

func defaultConfig() config { return config{Chunker: importer.DefaultChunker} }

// homeDir says where the state is, without looking.
func homeDir(c *cli.Context) (string, error) {
	if dir := c.String("home"); dir != "" {
		return filepath.Abs(dir)
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
	h := &home{dir: dir, config: defaultConfig()}
	err = h.checkVersion()
	switch {
	case err == nil:
		return h, h.readConfig()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case !create:
		return nil, fmt.Errorf("there is no state at %s: %w\nmake a snapshot, or run `volary init`, to begin", dir, fs.ErrNotExist)
	}
	return h, h.create()
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
	return nil
}

func (h *home) readConfig() error {
	md, err := toml.DecodeFile(h.path("config.toml"), &h.config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return usagef("%s: %v", h.path("config.toml"), err)
	}
	if unknown := md.Undecoded(); len(unknown) > 0 {
		return usagef("%s: unknown key %q\nknown are chunker and socket_group", h.path("config.toml"), unknown[0].String())
	}
	if err := importer.CheckChunker(h.config.Chunker); err != nil {
		return usagef("%s: %v", h.path("config.toml"), err)
	}
	return nil
}

// create makes the directory; state.json comes last, so that an interrupted create is begun again.
func (h *home) create() error {
	if err := os.MkdirAll(h.dir, 0o711); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if _, err := h.identity(); err != nil {
		return err
	}
	b, err := json.Marshal(stateFile{Version: homeVersion})
	if err != nil {
		return err
	}
	return writeFile(h.path("state.json"), append(b, '\n'), 0o644)
}

// identity returns the host's peer ID; its key is made when it is first needed.
func (h *home) identity() (peer.ID, error) {
	file := h.path("identity")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return "", fmt.Errorf("make identity: %w", err)
		}
		if b, err = crypto.MarshalPrivateKey(key); err != nil {
			return "", fmt.Errorf("make identity: %w", err)
		}
		if err := writeFile(file, b, 0o600); err != nil {
			return "", err
		}
		return peer.IDFromPrivateKey(key)
	}
	if err != nil {
		return "", fmt.Errorf("read identity: %w", err)
	}
	key, err := crypto.UnmarshalPrivateKey(b)
	if err != nil {
		return "", fmt.Errorf("%s is not a key: %w", file, store.ErrCorrupt)
	}
	return peer.IDFromPrivateKey(key)
}

// writeFile makes a file appear whole and durable, or not at all.
func writeFile(name string, data []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
