package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/meta"
	"github.com/volary/volary/snapshot/tree"
	"github.com/volary/volary/snapshot/view"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/mounts"
)

func mountCommand() *cli.Command {
	return command(cli.Command{
		Name:      "mount",
		Usage:     "show a snapshot, or a part of one, as a read-only directory",
		ArgsUsage: "REF[/PATH] DIR",
		Description: "DIR is an empty directory. Files are read from the store when they are asked for. A process in the background\n" +
			"serves the mount until `volary umount DIR`. Root mounts by itself, others need fusermount3 (package fuse3).\n\n" +
			"In a snapshot that was not made on this host setuid bits and devices have no effect. Being mounted does not\n" +
			"keep a snapshot from being collected once nothing else keeps it.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "serve the mount in this process"},
			&cli.BoolFlag{Name: "allow-other", Usage: "let other users in, with the permissions the snapshot gives them"},
			&cli.DurationFlag{Name: "io-timeout", Value: view.DefaultIOTimeout, Usage: "`TIME` a block is waited for"},
			&cli.StringFlag{Name: "log", Usage: "append to `FILE` what could not be read; without it, what is mounted in the background says nothing"},
		},
		Action: mountRef,
	}, 2, 2)
}

// mountJob is what the process in the background is told.
type mountJob struct {
	Home    string        `json:"home"`
	Config  config        `json:"config"`
	Root    string        `json:"root"`
	Path    string        `json:"path"`
	Dir     string        `json:"dir"`
	Foreign bool          `json:"foreign"`
	Others  bool          `json:"others"`
	Timeout time.Duration `json:"timeout"`
	Init    []byte        `json:"init"`
}

type mountJSON struct {
	Root string `json:"root"`
	Path string `json:"path,omitempty"`
	Dir  string `json:"dir"`
}

func mountRef(c *cli.Context) error {
	dir, err := mountPoint(c.Args().Get(1))
	if err != nil {
		return err
	}
	logFile, err := mountLog(c.String("log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	job, err := jobFor(c, dir)
	if err != nil {
		return err
	}
	done := mountJSON{Root: job.Root, Path: jsonName(job.Path), Dir: jsonName(dir)}
	if c.Bool("foreground") {
		return serveHere(c, job, func() error { return outputOf(c).object(done, func(io.Writer) {}) })
	}
	b, s, err := job.open(c.Context)
	if err != nil {
		return err
	}
	defer b.Close()
	conn, err := view.Attach(c.Context, s, dir, job.options(nil))
	if err != nil {
		return mountError(err)
	}
	defer conn.Close()
	job.Init = conn.Init
	if err := serveBeside(job, conn, logFile); err != nil {
		return errors.Join(fmt.Errorf("serve %s: %w", quote(dir), err), view.Detach(dir))
	}
	return outputOf(c).object(done, func(io.Writer) {})
}

// jobFor resolves what is to be mounted.
func jobFor(c *cli.Context, dir string) (mountJob, error) {
	host, err := openHost(c, readOnly)
	if err != nil {
		return mountJob{}, err
	}
	defer host.Close()
	ref := c.Args().First()
	t, err := openRef(c.Context, host.Host, ref)
	if err != nil {
		return mountJob{}, err
	}
	e, err := t.entry(c.Context)
	if err != nil {
		return mountJob{}, err
	}
	if e.Type != meta.Dir {
		return mountJob{}, usagef("%s is a %s, not a directory\nsee `volary cat`", quote(ref), e.Type)
	}
	own, err := host.Origins.Own(c.Context, t.root)
	return mountJob{
		Home: host.home.dir, Config: host.home.config, Root: t.root.String(), Path: t.path, Dir: dir,
		Foreign: !own, Others: c.Bool("allow-other"), Timeout: c.Duration("io-timeout"),
	}, err
}

// mountPoint is the absolute path of a directory that something may be mounted on.
func mountPoint(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return "", usagef("%s is a mount that nobody serves any more\nend it with `volary umount %s`", quote(dir), quote(dir))
	case err != nil:
		return "", fmt.Errorf("mount point: %w", err)
	case !info.IsDir():
		return "", usagef("%s is not a directory\ngive an empty directory", quote(dir))
	}
	return abs, emptyDir(abs)
}

// mountError adds what helps.
func mountError(err error) error {
	if errors.Is(err, view.ErrNoHelper) {
		return fmt.Errorf("%w\ninstall the package fuse3, or mount as root", err)
	}
	return err
}

func mountLog(name string) (*os.File, error) {
	if name == "" {
		name = os.DevNull
	}
	return os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
}

func (j mountJob) options(log *slog.Logger) view.Options {
	return view.Options{Path: j.Path, Foreign: j.Foreign, AllowOther: j.Others, IOTimeout: j.Timeout, Logger: log}
}

// open opens the snapshot by way of blocks that do not keep others from the state.
func (j mountJob) open(ctx context.Context) (*lentBlocks, *tree.Snapshot, error) {
	b := lendBlocks(&home{dir: j.Home, config: j.Config, remote: &remote{}})
	root, err := cid.Decode(j.Root)
	if err != nil {
		return nil, nil, err
	}
	s, err := tree.Open(ctx, b, root)
	if err != nil {
		b.Close()
		return nil, nil, err
	}
	return b, s, nil
}

// serveHere serves a mount until it is unmounted, or this process is told to end.
func serveHere(c *cli.Context, job mountJob, mounted func() error) error {
	b, s, err := job.open(c.Context)
	if err != nil {
		return err
	}
	defer b.Close()
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
	srv, err := view.Mount(c.Context, s, job.Dir, job.options(log))
	if err != nil {
		return mountError(err)
	}
	if err := mounted(); err != nil {
		return errors.Join(err, view.Detach(job.Dir))
	}
	serveUntil(c.Context, srv, job.Dir, log)
	return nil
}

// serveUntil waits for the end of a mount. When the process is told to end, the mount disappears, and who has
// files open in it can still read them.
func serveUntil(ctx context.Context, srv *view.Server, dir string, log *slog.Logger) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		srv.Wait()
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	if err := view.Detach(dir); err != nil {
		log.Error("unmount", "error", err)
		return
	}
	<-ended
}

// serveBeside has a process in the background serve a mount, and returns once it does.
func serveBeside(job mountJob, conn view.Connection, log *os.File) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	told, err := json.Marshal(job)
	if err != nil {
		return err
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(exe, serveMountName)
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader(string(told) + "\n")
	cmd.Stderr = log
	cmd.ExtraFiles = []*os.File{conn.Device, conn.Table, theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	said, err := bufio.NewReader(ready).ReadString('\n')
	if err == nil && said == mountServed {
		return nil
	}
	cmd.Wait()
	return fmt.Errorf("the process in the background said %q: %w", said, snapshot.ErrUnavailable)
}

const (
	serveMountName = "serve-mount"
	mountServed    = "served\n"
)

// serveMountCommand is what mount runs in the background, with the device, the table and a pipe as descriptors.
func serveMountCommand() *cli.Command {
	return &cli.Command{Name: serveMountName, Hidden: true, Action: serveMount}
}

func serveMount(c *cli.Context) error {
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
	ready := os.NewFile(5, "ready")
	var job mountJob
	if err := json.NewDecoder(os.Stdin).Decode(&job); err != nil {
		return usagef("%s is run by `volary mount`: %v", serveMountName, err)
	}
	b, s, err := job.open(c.Context)
	if err != nil {
		return err
	}
	defer b.Close()
	conn := view.Connection{Device: os.NewFile(3, "/dev/fuse"), Table: os.NewFile(4, "numbers"), Init: job.Init}
	srv, err := view.Resume(c.Context, s, conn, job.options(log))
	if err != nil {
		return err
	}
	if _, err := io.WriteString(ready, mountServed); err != nil {
		log.Warn("tell who mounted", "error", err)
	}
	ready.Close()
	serveUntil(c.Context, srv, job.Dir, log)
	return nil
}

func umountCommand() *cli.Command {
	return command(cli.Command{
		Name:      "umount",
		Usage:     "end a mount made by mount",
		ArgsUsage: "DIR",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "lazy", Usage: "take it out of sight although it is in use; it ends when it no longer is"},
		},
		Action: umountDir,
	}, 1, 1)
}

func umountDir(c *cli.Context) error {
	arg := c.Args().First()
	dir, err := filepath.Abs(arg)
	if err != nil {
		return err
	}
	m, mounted, err := mounts.At(dir)
	switch {
	case err != nil:
		return err
	case !mounted:
		return worded{fmt.Sprintf("nothing is mounted at %s\nsee findmnt -t fuse.volary", quote(arg)), fs.ErrNotExist}
	case m.Type != "fuse.volary":
		return usagef("%s is a mount of type %s, not of a snapshot\nvolumes are unmounted by `volary volume umount`", quote(arg), m.Type)
	}
	if c.Bool("lazy") {
		return view.Detach(dir)
	}
	err = view.Unmount(dir)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: %w by open files or working directories\nsee fuser -vm %s, or give --lazy", quote(arg), volume.ErrInUse, quote(arg))
	}
	return err
}
