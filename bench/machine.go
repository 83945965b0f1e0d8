package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	limitHash  = "read + SHA-256 on all cores"
	limitWrite = "write + sync once"
	limitCopy  = "cp + sync"
)

var limits = [...]string{limitHash, limitWrite, limitCopy}

// measureLimits measures what the machine allows on an input of one large file.
func (p *plan) measureLimits(ctx context.Context, in input, res *results) error {
	src, dst := filepath.Join(in.dir, "big"), filepath.Join(p.work, "limit")
	if err := warm(in.dir); err != nil {
		return err
	}
	for _, l := range []struct {
		name string
		do   func() error
	}{
		{limitHash, func() error { return hashAll(src) }},
		{limitWrite, func() error { return writeOnce(dst, p.sizes.big) }},
		{limitCopy, func() error { _, err := quietly(exec.CommandContext(ctx, "cp", src, dst)); return err }},
	} {
		u, err := p.meter.Measure(l.do)
		if err := errors.Join(err, os.RemoveAll(dst)); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		progress("         (%s) machine: %-28s %5.2f s", in.name, l.name, u.Durable.Seconds())
		res.limits[l.name] = append(res.limits[l.name], u)
	}
	return nil
}

// hashAll hashes a file's MiBs on all cores.
func hashAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const chunk = 1 << 20
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, runtime.NumCPU())
	for i := range errs {
		wg.Go(func() {
			buf := make([]byte, chunk)
			for {
				at := (next.Add(1) - 1) * chunk
				if at >= info.Size() {
					return
				}
				n, err := f.ReadAt(buf[:min(chunk, info.Size()-at)], at)
				if err != nil {
					errs[i] = err
					return
				}
				sum := sha256.Sum256(buf[:n])
				runtime.KeepAlive(sum)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// writeOnce writes and syncs a file of so many bytes, which takes no reading.
func writeOnce(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i * 7)
	}
	for left := size; left > 0; left -= int64(len(buf)) {
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

// A fact is a line of the report's head.
type fact struct{ name, value string }

// machineFacts is what a reader must know to compare figures with those of another machine.
func machineFacts(ctx context.Context, dir string, t tools, floor int64) ([]fact, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	fileSystem, err := quietly(exec.CommandContext(ctx, "findmnt", "-n", "-o", "FSTYPE,OPTIONS", "--target", dir))
	if err != nil {
		return nil, err
	}
	commit, err := quietly(exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12"))
	if err != nil {
		return nil, err
	}
	cpu, err := valueIn("/proc/cpuinfo", "model name")
	if err != nil {
		return nil, err
	}
	memory, err := valueIn("/proc/meminfo", "MemTotal")
	if err != nil {
		return nil, err
	}
	return []fact{
		{"date", time.Now().UTC().Format("2006-01-02 15:04 MST")},
		{"volary", commit},
		{"ipfs", t.versions["ipfs"]},
		{"restic", t.versions["restic"]},
		{"kopia", t.versions["kopia"]},
		{"Go", runtime.Version()},
		{"CPU", fmt.Sprintf("%s, %d cores", cpu, runtime.NumCPU())},
		{"memory", memory},
		{"kernel", unix.ByteSliceToString(uts.Sysname[:]) + " " + unix.ByteSliceToString(uts.Release[:])},
		{"file system", strings.Join(strings.Fields(fileSystem), " ")},
		{"least peak of memory that could be told apart", fmt.Sprintf("%.0f MiB", mib(floor))},
	}, nil
}

// valueIn is the first value of a key in a file of "key : value" lines.
func valueIn(path, key string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("%s has no %q", path, key)
}
