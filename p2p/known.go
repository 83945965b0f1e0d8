package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/volary/volary/snapshot/durable"
)

const (
	// maxKnown is how many peers are remembered beside the configured ones.
	maxKnown = 512

	knownHeader = "volary/known/1\n"
	mostKnown   = len(knownHeader) + 8 + maxKnown*(maxRecord+8)
	saveAfter   = 2 * time.Second // so that a burst of peers is written once
)

// learn takes over a record. Of a peer that is there itself it is taken even if too many are known.
func (h *Host) learn(r addresses, there bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.id == h.libp2p.ID() {
		return
	}
	t := h.targets[r.id]
	if t == nil {
		if len(r.addrs) == 0 || len(h.targets)-len(h.o.Peers) >= maxKnown && !h.forget(there) {
			return
		}
		t = &target{info: peer.AddrInfo{ID: r.id}, next: time.Now().Add(jitter(soon))}
		h.targets[r.id] = t
	}
	if r.seq <= t.record.seq && t.record.raw != nil {
		return
	}
	moved := !sameAddrs(r.addrs, t.record.addrs)
	t.record = r
	if _, is := h.live[r.id]; is {
		t.good = true
	} else if moved {
		t.fails, t.next = 0, time.Now().Add(jitter(soon))
	}
	if moved && t.good {
		h.changed()
	}
}

// forget makes room for another peer, if there is one of which less is to be had.
func (h *Host) forget(even bool) bool {
	var worst *target
	for id, t := range h.targets {
		if _, is := h.live[id]; is || t.configured || t.trying || t.good && !even {
			continue
		}
		if worst == nil || worst.good && !t.good || worst.good == t.good && t.fails > worst.fails {
			worst = t
		}
	}
	if worst == nil {
		return false
	}
	delete(h.targets, worst.info.ID)
	return true
}

// changed has save write what is known.
func (h *Host) changed() {
	select {
	case h.dirty <- struct{}{}:
	default:
	}
}

// recall makes targets of the peers that were connected in an earlier life. What cannot be read is told and given up:
// it is only what peers tell again.
func (h *Host) recall() {
	if h.o.Known == "" {
		return
	}
	all, err := readKnown(h.o.Known)
	if err != nil {
		h.log.Warn("peers of an earlier time are not known any more", logError, err)
	}
	for _, r := range all {
		h.learn(r, false)
		if t := h.targets[r.id]; t != nil {
			t.good = true
		}
	}
}

func readKnown(file string) ([]addresses, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read known peers: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(mostKnown)+1))
	if err != nil {
		return nil, fmt.Errorf("read known peers: %w", err)
	}
	all, err := decodeKnown(b)
	if err != nil {
		return nil, fmt.Errorf("read known peers of %s: %w", file, err)
	}
	return all, nil
}

func encodeKnown(all []addresses) []byte { return append([]byte(knownHeader), encodeRecords(all)...) }

func decodeKnown(b []byte) ([]addresses, error) {
	rest, is := bytes.CutPrefix(b, []byte(knownHeader))
	if !is {
		return nil, fmt.Errorf("it does not begin with %q: %w", knownHeader, ErrFormat)
	}
	return decodeRecords(rest, maxKnown)
}

// remember writes what is known whenever it has changed, and at the end.
func (h *Host) remember(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			h.save()
			return
		case <-h.dirty:
		}
		timer := time.NewTimer(saveAfter)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		h.save()
	}
}

// save writes the peers that were connected once.
func (h *Host) save() {
	h.mu.Lock()
	var all []addresses
	for _, t := range h.targets {
		if t.good && len(t.record.addrs) > 0 && len(all) < maxKnown {
			all = append(all, t.record)
		}
	}
	h.mu.Unlock()
	if err := durable.WriteFile(h.o.Known, encodeKnown(all), 0o600); err != nil {
		h.log.Warn("peers are not remembered", logError, err)
	}
}
