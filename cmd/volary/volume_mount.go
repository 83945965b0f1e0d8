package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/overlay"
)

func volumeMountCommand() *cli.Command {
	return command(cli.Command{
		Name:      "mount",
		Usage:     "make a volume visible as a directory, and print its path",
		ArgsUsage: "NAME [DIR]",
		Description: "Without DIR the directory is one in the state directory. Changes stay local until they are committed: by\n" +
			"`volary volume commit`, and with the last umount unless the option commit=manual says otherwise.\n" +
			"With --follow it is read-only, and set-user-ID bits and devices in it have no effect.\n" +
			"A volume that another host in the network has mounted for writing is not mounted, unless it is to be read only.\n" +
			"Needs a daemon that runs as root.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "read-only", Aliases: []string{"r"}, Usage: "without the right to change it"},
			&cli.BoolFlag{Name: "follow", Usage: "read-only, and show each new state of the volume by itself, whoever makes it; what is open goes on showing what it was"},
			&cli.BoolFlag{Name: "steal", Usage: "also if another host writes to it, which is told; what it commits from then on is a fork"},
		},
		Action: volumeMount,
	}, 1, 2)
}

func volumeMount(c *cli.Context) error {
	op := &volume.Mount{Name: c.Args().First(), ReadOnly: c.Bool("read-only"), Follow: c.Bool("follow"), Steal: c.Bool("steal")}
	if op.Steal && op.Follow {
		return usagef("--steal is for writing, --follow only for reading\nleave one of them out")
	}
	if isForkRef(op.Name) {
		return usagef("%s is a state of a volume\n`volary mount` shows it, `volary volume clone %s NEW` makes a volume of it", op.Name, op.Name)
	}
	host, err := openDaemon(c)
	if err != nil {
		return err
	}
	defer host.Close()
	dir := c.Args().Get(1)
	if dir != "" {
		i, err := listed(c, host, op.Name)
		if err != nil {
			return err
		}
		if dir, err = realDir(dir); err != nil {
			return err
		}
		op.User = volume.DirUser + dir
		if bound(i.Mountpoint, dir) {
			res := volume.Result{Volume: i, Commit: i.Head, Path: dir}
			return outputOf(c).object(res, func(w io.Writer) { fmt.Fprintln(w, res.Path) })
		}
		if _, err := mountPoint(dir); err != nil {
			return err
		}
	}
	res, err := host.Volumes.Do(c.Context, op)
	if err != nil {
		return err
	}
	if dir != "" && !bound(res.Path, dir) {
		if err := unix.Mount(res.Path, dir, "", unix.MS_BIND, ""); err != nil {
			_, undo := host.Volumes.Do(c.Context, &volume.Unmount{Name: op.Name, User: op.User})
			return errors.Join(fmt.Errorf("bind %s to %s: %w", op.Name, quote(dir), err), undo)
		}
	}
	if dir != "" {
		res.Path = dir
	}
	return printResult(c, res, func(w io.Writer, res volume.Result) { fmt.Fprintln(w, res.Path) })
}

// emptyDir refuses a directory that nothing may be mounted on.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	if len(entries) > 0 {
		return usagef("%s is not empty\ngive an empty directory", quote(dir))
	}
	return nil
}

// bound reports whether a directory shows what is mounted at a mount point.
func bound(mountpoint, dir string) bool {
	var at, there unix.Stat_t
	return mountpoint != "" && unix.Stat(mountpoint, &there) == nil && unix.Stat(dir, &at) == nil &&
		at.Dev == there.Dev && at.Ino == there.Ino
}

// listed returns what is known of a volume without looking for changes.
func listed(c *cli.Context, host *openedHost, name string) (*volume.Info, error) {
	infos, err := host.Volumes.List(c.Context, volume.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, i := range infos {
		if i.Name == name {
			return &i, nil
		}
	}
	return nil, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
}

func volumeUmountCommand() *cli.Command {
	return command(cli.Command{
		Name:      "umount",
		Usage:     "end a mount, commit what changed, and print the snapshot's CID",
		ArgsUsage: "NAME [DIR]",
		Description: "Without DIR, all mounts made by `volary volume mount`; those of containers stay. If no snapshot is made, nothing\n" +
			"is printed, and standard error says why.",
		Flags: append(waitFlags(), &cli.BoolFlag{
			Name: "containers", Usage: "those of containers as well, which their engine has forgotten; not while one uses the volume",
		}),
		Action: volumeUmount,
	}, 1, 2)
}

func volumeUmount(c *cli.Context) error {
	w, err := parseWait(c)
	if err != nil {
		return err
	}
	host, err := openDaemon(c)
	if err != nil {
		return err
	}
	defer host.Close()
	if err := w.possible(c.Context, host); err != nil {
		return err
	}
	name := c.Args().First()
	i, err := listed(c, host, name)
	if err != nil {
		return err
	}
	if c.Bool("containers") && c.NArg() > 1 {
		return usagef("--containers: a container's mount is not at a directory")
	}
	users, err := ownUsers(c.Args().Get(1), i, c.Bool("containers"))
	if err != nil {
		return err
	}
	var res volume.Result
	containers := slices.ContainsFunc(users, isContainer)
	for _, user := range slices.DeleteFunc(users, isContainer) {
		// What else may be mounted there meanwhile is not the volume's to take away.
		if dir, ok := strings.CutPrefix(user, volume.DirUser); ok && bound(i.Mountpoint, dir) {
			if err := unbind(dir); err != nil {
				return err
			}
		}
		if res, err = host.Volumes.Do(c.Context, &volume.Unmount{Name: name, User: user, NoWait: true}); err != nil {
			return err
		}
	}
	if containers {
		if res, err = host.Volumes.Do(c.Context, &volume.Unmount{Name: name, Containers: true, NoWait: true}); err != nil {
			return err
		}
	}
	return printAndWait(c, host, w, &volume.Unmount{Name: name}, res, printCommit)
}

func isContainer(user string) bool { return strings.HasPrefix(user, volume.ContainerUser) }

// unbind takes a mount away from a directory, if it is there.
func unbind(dir string) error {
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	switch err {
	case nil, unix.EINVAL, unix.ENOENT:
		return nil
	case unix.EBUSY:
		return fmt.Errorf("unmount %s: %w by %s", quote(dir), volume.ErrInUse, strings.Join(overlay.Holders(dir), ", "))
	}
	return fmt.Errorf("unmount %s: %w", quote(dir), err)
}

// ownUsers are the mounts that umount means: the one at a directory, or all that were made on a command line.
func ownUsers(dir string, i *volume.Info, containers bool) ([]string, error) {
	if dir != "" {
		dir, err := realDir(dir)
		if err == nil && !slices.Contains(i.Users, volume.DirUser+dir) {
			err = worded{fmt.Sprintf("%s is not mounted at %s", quote(i.Name), quote(dir)), fs.ErrNotExist}
		}
		return []string{volume.DirUser + dir}, err
	}
	var users []string
	for _, u := range i.Users {
		if u == volume.DefaultUser || strings.HasPrefix(u, volume.DirUser) || containers && isContainer(u) {
			users = append(users, u)
		}
	}
	switch {
	case len(users) > 0:
	case len(i.Users) > 0:
		return nil, worded{fmt.Sprintf("%s is mounted by %s only\nstop its containers: `docker ps --filter volume=%s`; what their engine has forgotten: `volary volume umount --containers %s`",
			quote(i.Name), strings.Join(i.Users, ", "), i.Name, i.Name), volume.ErrMounted}
	case !i.Base.Defined():
		return nil, worded{quote(i.Name) + " is not mounted", fs.ErrNotExist}
	default:
		users = append(users, volume.DefaultUser) // to finish what was begun
	}
	return users, nil
}

// realDir is the path of a directory without symlinks, which is what the kernel knows a mount point by.
func realDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	return dir, nil
}

// unbindAll takes a volume away from all directories where it was put on a command line.
func unbindAll(c *cli.Context, host *openedHost, name string) error {
	i, err := listed(c, host, name)
	if err != nil {
		return err
	}
	for _, user := range i.Users {
		if dir, ok := strings.CutPrefix(user, volume.DirUser); ok && bound(i.Mountpoint, dir) {
			if err := unbind(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// rebind shows a volume again at the directories where it was before the machine was started anew.
func rebind(i *volume.Info, log *slog.Logger) {
	for _, user := range i.Users {
		dir, ok := strings.CutPrefix(user, volume.DirUser)
		if !ok || bound(i.Mountpoint, dir) {
			continue
		}
		err := emptyDir(dir)
		if err == nil {
			err = unix.Mount(i.Mountpoint, dir, "", unix.MS_BIND, "")
		}
		if err != nil {
			log.Error("a volume is not shown where it was", "volume", i.Name, "dir", dir, "error", err)
		}
	}
}
