package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot/cached"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/statedb"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/zombie"
)

const (
	// killedWait is how long a killed process has to end by itself, before its locks are taken away from it.
	killedWait = 500 * time.Millisecond
	// answerWait is how long a daemon that is well may take to say so.
	answerWait = 5 * time.Second
	// endWait is how long what a killed process waits for may take, once it is answered, or what it waits for of a disk.
	endWait = time.Minute
)

// Labels of the steps in which a state is taken away from killed processes, each reached right after the named thing was
// done. Whoever stops at any of them leaves the state to the next one, and nothing is lost.
const (
	stepSocketGone = "seize-socket-gone" // nobody connects to the killed daemon
	stepRenewed    = "seize-renewed"     // a database is a copy, which nobody has locked; once for each
	stepCacheFree  = "seize-cache-free"  // the cache is not locked
	stepStoreFree  = "seize-store-free"  // the store is not
)

// seize takes the state away from killed processes that cannot end, and returns them. They may be waiting for answers to
// what they asked of mounts, which only a daemon gives, and it needs the state for that. The error wraps store.ErrLocked
// if somebody is alive who holds it.
func (h *home) seize(step func(string) error) (killed []zombie.Process, err error) {
	err = store.Seize(h.path("store"), func(lock string) error {
		if killed, err = zombie.Locking(lock); err != nil {
			return err
		}
		if len(killed) == 0 {
			return store.ErrLocked
		}
		for _, p := range killed {
			if err := p.Harmless(); err != nil {
				return fmt.Errorf("%w: %w", store.ErrLocked, err)
			}
		}
		return h.free(step)
	})
	if err != nil {
		return nil, err
	}
	return killed, step(stepStoreFree)
}

// free makes all locks of the state anew, but the store's, which keeps others away meanwhile.
func (h *home) free(step func(string) error) error {
	if err := os.Remove(h.path(socketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := step(stepSocketGone); err != nil {
		return err
	}
	for _, file := range []string{filepath.Join(volumesDir, volume.StateFile), headsFile, outboxFile} {
		if err := statedb.Renew(h.path(file)); err != nil {
			return err
		}
		if err := step(stepRenewed); err != nil {
			return err
		}
	}
	if err := cached.Seize(h.path(cacheDir)); err != nil {
		return err
	}
	return step(stepCacheFree)
}

// openServed opens the state for a daemon, if need be after it was taken away from processes that were killed, which are
// returned.
func openServed(ctx context.Context, h *home, log *slog.Logger) (host *api.Host, killed []zombie.Process, err error) {
	began := time.Now()
	var kept error // why it was not taken away
	take := func() (*api.Host, error) {
		host, err := openStore(ctx, h, true)
		if !errors.Is(err, store.ErrLocked) || time.Since(began) < killedWait || os.Geteuid() != 0 {
			return host, err
		}
		found, seizeErr := h.seize(func(string) error { return nil })
		if errors.Is(seizeErr, store.ErrLocked) {
			kept = seizeErr
			return nil, err
		}
		if seizeErr != nil {
			return nil, seizeErr
		}
		killed = append(killed, found...)
		log.Warn("took the state over from a process that was killed and cannot end before it is answered", "process", names(found))
		return openStore(ctx, h, true)
	}
	host, err = whileLocked(ctx, take)
	// What the kernel still does for one that was killed it does to the end, which takes as long as the disk does.
	for errors.Is(err, store.ErrLocked) && errors.Is(kept, zombie.ErrUnderWay) && time.Since(began) < endWait && ctx.Err() == nil {
		host, err = whileLocked(ctx, take)
	}
	if errors.Is(err, store.ErrLocked) && h.isServed(ctx) {
		return nil, nil, h.alreadyServed()
	}
	if kept != nil && errors.Is(err, store.ErrLocked) {
		log.Warn("did not take the state over", "error", kept)
	}
	if known := h.lockedByKilled(err); known != nil {
		return nil, nil, known
	}
	if errors.Is(err, store.ErrLocked) {
		err = hinted{err, "perhaps by another daemon: see `volary status`"}
	}
	return host, killed, err
}

// isServed reports whether a daemon answers.
func (h *home) isServed(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	host, err := api.Dial(ctx, h.path(socketName), api.DialOptions{Kinds: errorKinds})
	if err != nil {
		return false
	}
	host.Close()
	return true
}

func (h *home) alreadyServed() error {
	text := "a daemon runs already"
	if pid, known := store.LockedBy(h.path("store")); known {
		text += fmt.Sprintf(" (process %d)", pid)
	}
	return worded{text + "\nsee `volary status`", store.ErrLocked}
}

func names(ps []zombie.Process) string {
	var all []string
	for _, p := range ps {
		all = append(all, p.String())
	}
	return strings.Join(all, ", ")
}

// lockedByKilled says what to do if a state is locked by a process that was killed; nil if err is about something else.
func (h *home) lockedByKilled(err error) error {
	if !errors.Is(err, store.ErrLocked) {
		return nil
	}
	pid, known := store.LockedBy(h.path("store"))
	if !known {
		return nil
	}
	p, findErr := zombie.Find(pid)
	if findErr != nil || !p.Killed() {
		return nil
	}
	const hint = "start `volary daemon` as root: it takes the state over, and answers what the process waits for"
	return hinted{fmt.Errorf("%w: %s was killed, and cannot end before a daemon runs", store.ErrLocked, p), hint}
}

// answerKilled serves what was mounted by processes from which the state was taken, until they have ended. One that has
// not, and was mounting, may still do so: nobody else mounts then.
func answerKilled(ctx context.Context, killed []zombie.Process, lower *holder.Lower, host *api.Host, log *slog.Logger) error {
	if len(killed) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	err := lower.ResumeAll(ctx, func(ctx context.Context, root cid.Cid) (*tree.Snapshot, error) {
		return tree.Open(ctx, host.Blocks, root)
	})
	if err != nil {
		log.Error("mounts", "error", err)
	}
	for _, p := range killed {
		err := p.Wait(ctx)
		if err != nil && p.Mounting() {
			return hinted{fmt.Errorf("%w, which was killed while it mounted: %w", err, store.ErrLocked), mountingHint}
		}
		if err != nil {
			log.Error("what it waits for goes on waiting", "error", err)
			continue
		}
		log.Info("the process that was killed has ended", "process", p.String())
	}
	return nil
}

const mountingHint = "end the process `volary holder`: who waits in the mounts gets an error, and the changes in them are kept"
