package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/overlay"
)

// dirUser begins the user of a mount that somebody has asked for at a directory of their own.
const dirUser = "dir:"

func volumeMountCommand() *cli.Command {
	return command(cli.Command{
		Name:      "mount",
		Usage:     "make a volume visible as a directory, and print its path",
		ArgsUsage: "NAME [DIR]",
		Description: "Without DIR the directory is one in the state directory. Changes stay local until they are committed: by\n" +
			"`volary volume commit`, and with the last umount unless the option commit=manual says otherwise.\n" +
			"Needs a daemon that runs as root.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "read-only", Aliases: []string{"r"}, Usage: "without the right to change it"}},
		Action: volumeMount,
	}, 1, 2)
}

func volumeMount(c *cli.Context) error {
	op := &volume.Mount{Name: c.Args().First(), ReadOnly: c.Bool("read-only")}
	dir := c.Args().Get(1)
	if dir != "" {
		var err error
		if dir, err = emptyDir(dir); err != nil {
			return err
		}
		op.User = dirUser + dir
	}
	host, err := openDaemon(c)
	if err != nil {
		return err
	}
	defer host.Close()
	res, err := host.Volumes.Do(c.Context, op)
	if err != nil {
		return err
	}
	if dir != "" {
		if err := unix.Mount(res.Path, dir, "", unix.MS_BIND, ""); err != nil {
			_, undo := host.Volumes.Do(c.Context, &volume.Unmount{Name: op.Name, User: op.User})
			return errors.Join(fmt.Errorf("bind %s to %s: %w", op.Name, quote(dir), err), undo)
		}
		res.Path = dir
	}
	return outputOf(c).object(res, func(w io.Writer) { fmt.Fprintln(w, res.Path) })
}

// emptyDir is the absolute path of a directory that something may be mounted on.
func emptyDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	if len(entries) > 0 {
		return "", usagef("%s is not empty\ngive an empty directory", quote(dir))
	}
	return dir, nil
}

func volumeUmountCommand() *cli.Command {
	return command(cli.Command{
		Name:        "umount",
		Usage:       "end a mount, and commit what changed",
		ArgsUsage:   "NAME [DIR]",
		Description: "Without DIR, all mounts made by `volary volume mount`; those of containers stay.",
		Action:      volumeUmount,
	}, 1, 2)
}

func volumeUmount(c *cli.Context) error {
	host, err := openDaemon(c)
	if err != nil {
		return err
	}
	defer host.Close()
	name := c.Args().First()
	users, err := ownUsers(c, host, name)
	if err != nil {
		return err
	}
	for _, user := range users {
		if dir, ok := strings.CutPrefix(user, dirUser); ok {
			if err := unbind(dir); err != nil {
				return err
			}
		}
		if _, err := host.Volumes.Do(c.Context, &volume.Unmount{Name: name, User: user}); err != nil {
			return err
		}
	}
	return nil
}

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

// ownUsers are the mounts that umount means.
func ownUsers(c *cli.Context, host *openedHost, name string) ([]string, error) {
	if dir := c.Args().Get(1); dir != "" {
		dir, err := filepath.Abs(dir)
		return []string{dirUser + dir}, err
	}
	infos, err := host.Volumes.List(c.Context, false)
	if err != nil {
		return nil, err
	}
	for _, i := range infos {
		if i.Name != name {
			continue
		}
		var users []string
		for _, u := range i.Users {
			if u == volume.DefaultUser || strings.HasPrefix(u, dirUser) {
				users = append(users, u)
			}
		}
		if len(users) == 0 {
			users = append(users, volume.DefaultUser) // to finish what was begun
		}
		return users, nil
	}
	return nil, fmt.Errorf("%q: %w", name, volume.ErrNotFound)
}
