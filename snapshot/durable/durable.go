// Package durable makes names and files that are on the disk when it says so. Start with [WriteFile] and [MkdirAll];
// [CreateFile] is for what must be made by one of several.
//
// It guarantees: when a function returns without an error, the power may go.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// WriteFile makes a file appear whole, or not at all.
func WriteFile(name string, data []byte, mode os.FileMode) error {
	return write(name, data, mode, Publish)
}

// CreateFile is WriteFile for a name that does not exist: of several who make it one does, and for the others the
// error wraps [fs.ErrExist].
func CreateFile(name string, data []byte, mode os.FileMode) error {
	return write(name, data, mode, func(f *os.File, name string) error {
		if err := f.Sync(); err != nil {
			return err
		}
		err := os.Link(f.Name(), name)
		if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) {
			return Publish(f, name) // such as on FAT, which has no links: there the last one counts
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
			return err
		}
		return SyncDir(filepath.Dir(name))
	})
}

func write(name string, data []byte, mode os.FileMode, publish func(*os.File, string) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = publish(f, name)
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Publish gives a temporary file its name, once its content is on the disk. It closes the file.
func Publish(f *os.File, name string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(name))
}

// MkdirAll makes a directory and those above it that are missing.
func MkdirAll(dir string, mode os.FileMode) error {
	err := os.Mkdir(dir, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := MkdirAll(filepath.Dir(dir), mode); err != nil {
			return err
		}
		err = os.Mkdir(dir, mode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(dir))
}

// SyncDir puts the names in a directory on the disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
