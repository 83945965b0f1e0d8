package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
	"github.com/volary/volary/volume/publish"
	"github.com/volary/volary/volume/rotation"
)

// Files of a home while its volumes go over to a namespace with another secret.
const (
	rotationFile = "rotation"
	nextHeads    = headsFile + ".next" // the table of heads that is to take the place of the one there is
	formerlyFile = "formerly"          // IDs of namespaces that the host went over from, one a line
)

// Labels of the steps of a rotation, each reached once the named thing was done. Whoever opens the state next goes on.
const (
	stepBegun     = "rotation-begun"     // the secret is written down
	stepMade      = "rotation-made"      // states and the next table are on the disk
	stepDecided   = "rotation-decided"   // what becomes of each volume is written down
	stepHeads     = "rotation-heads"     // the next table is in its place
	stepNamespace = "rotation-namespace" // so is the secret
	stepOutbox    = "rotation-outbox"    // what the cluster was to be told is forgotten
)

const rotationVersion = 1

// rotationState is the file that says how far a rotation has come. It has the secret in it.
type rotationState struct {
	Version int              `json:"version"`
	Token   string           `json:"token"` // of the namespace that the host goes over to
	From    string           `json:"from"`  // ID of the one it comes from
	Decided bool             `json:"decided"`
	Moved   []rotation.Moved `json:"moved,omitempty"` // once that is decided
}

// errRotating says that a rotation is to be gone on with, which needs to write.
var errRotating = fmt.Errorf("the namespace's secret was being changed when the program before this one ended: %w", store.ErrBusy)

func (h *home) rotating() bool { return exists(h.path(rotationFile)) }

func (h *home) readRotation() (st rotationState, _ error) {
	b, err := os.ReadFile(h.path(rotationFile))
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return st, fmt.Errorf("%s: %w: %w", h.path(rotationFile), err, store.ErrCorrupt)
	}
	if st.Version != rotationVersion {
		return st, fmt.Errorf("%s is of version %d, this program knows %d: %w", h.path(rotationFile), st.Version, rotationVersion, store.ErrNewer)
	}
	return st, nil
}

func (h *home) writeRotation(st rotationState) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return durable.WriteFile(h.path(rotationFile), append(b, '\n'), 0o600)
}

// goOn finishes a rotation that was begun, before anything else is done with the state.
func (h *home) goOn(ctx context.Context, write bool) error {
	if !write {
		return hinted{errRotating, "go on with it: `volary namespace rotate`"}
	}
	m, err := h.openMove(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	_, err = m.finish(ctx, noStep)
	return err
}

func noStep(string) error { return nil }

// move is a home whose volumes go over to another namespace, open for nothing else. Close it.
type move struct {
	home    *home
	host    *api.Host
	volumes *volume.Manager
	log     *slog.Logger
}

// openMove opens the state without what the namespace is for. It fails while somebody else has it.
func (h *home) openMove(ctx context.Context) (*move, error) {
	// The cluster is told by whoever opens the state next, in the name of the namespace that it is then in.
	own := &home{dir: h.dir, config: h.config, state: h.state, remote: &remote{}, kuboOfFile: h.kuboOfFile, moving: true}
	own.config.Cluster = nil
	host, err := openStore(ctx, own, true)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m := &move{home: own, host: host, log: log}
	author, err := h.peerID()
	if err == nil {
		m.volumes, err = volume.Open(h.path(volumesDir), volume.Options{
			Begin: m.begin, Blocks: host.Blocks, Pins: host.Pins, Own: host.Origins, Tags: host.Tags, Author: author, Logger: log,
		})
	}
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	return m, nil
}

func (m *move) close() error { return errors.Join(m.volumes.Close(), m.host.Close()) }

func (m *move) begin(ctx context.Context) (volume.Session, error) {
	s, err := m.host.Sessions.Session(ctx)
	if err != nil {
		return nil, err
	}
	return api.ForCaller(s, uint32(os.Geteuid())), nil
}

// start writes down that the host goes over to the namespace of a token.
func (m *move) start(token, from string) error {
	if err := m.volumes.AtRest(); err != nil {
		return hinted{err, "unmount it and commit or discard its changes first: `volary daemon`, `volary volume umount`"}
	}
	return m.home.writeRotation(rotationState{Version: rotationVersion, Token: token, From: from})
}

// finish does what is left to do of a rotation that was begun.
func (m *move) finish(ctx context.Context, step func(string) error) (st rotationState, err error) {
	h := m.home
	if st, err = h.readRotation(); err != nil {
		return st, err
	}
	ns, _, err := namespace.ParseToken(st.Token)
	if err != nil {
		return st, fmt.Errorf("%s: %w: %w", h.path(rotationFile), err, store.ErrCorrupt)
	}
	o := rotation.Options{To: ns, Volumes: m.volumes, Begin: m.begin, Pins: m.host.Pins, Own: m.host.Origins}
	if !st.Decided {
		if st.Moved, err = m.prepare(ctx, o); err != nil {
			return st, err
		}
		if err := step(stepMade); err != nil {
			return st, err
		}
		st.Decided = true
		if err := h.writeRotation(st); err != nil {
			return st, err
		}
		if err := step(stepDecided); err != nil {
			return st, err
		}
	}
	if err := rotation.Apply(ctx, o, st.Moved, step); err != nil {
		return st, err
	}
	return st, h.replace(st, step)
}

// prepare makes what there is to be, beside what there is.
func (m *move) prepare(ctx context.Context, o rotation.Options) (moved []rotation.Moved, err error) {
	h := m.home
	if err := os.Remove(h.path(nextHeads)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	open := func(name string) (*table.Table, error) {
		return table.Open(h.path(name), publish.History(m.host.Blocks))
	}
	if o.Before, err = open(headsFile); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.Before.Close()) }()
	if o.Table, err = open(nextHeads); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.Table.Close()) }()
	if err := o.Table.Claim(o.To.ID()); err != nil {
		return nil, err
	}
	return rotation.Prepare(ctx, o)
}

// replace puts what was made in its place. The table that was there has nothing that counts any more.
func (h *home) replace(st rotationState, step func(string) error) error {
	if err := h.rememberFormer(st.From); err != nil {
		return err
	}
	if err := os.Rename(h.path(nextHeads), h.path(headsFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := durable.SyncDir(h.dir); err != nil {
		return err
	}
	if err := step(stepHeads); err != nil {
		return err
	}
	if err := durable.WriteFile(h.path(namespaceFile), []byte(st.Token+"\n"), 0o600); err != nil {
		return err
	}
	if err := step(stepNamespace); err != nil {
		return err
	}
	// What people pinned and the cluster was not told of is found again when it is compared with the cluster's list.
	if err := h.removeFile(outboxFile); err != nil {
		return err
	}
	if err := step(stepOutbox); err != nil {
		return err
	}
	return h.removeFile(rotationFile)
}

// formerly are the IDs of the namespaces that the host went over from: what a cluster keeps in their names is its own.
func (h *home) formerly() ([]string, error) {
	b, err := os.ReadFile(h.path(formerlyFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return strings.Fields(string(b)), err
}

func (h *home) rememberFormer(id string) error {
	ids, err := h.formerly()
	if err != nil || id == "" || slices.Contains(ids, id) {
		return err
	}
	return durable.WriteFile(h.path(formerlyFile), []byte(strings.Join(append(ids, id), "\n")+"\n"), 0o644)
}

func (h *home) removeFile(name string) error {
	if err := os.Remove(h.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(h.path(name)))
}
