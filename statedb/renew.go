package statedb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/volary/volary/snapshot/durable"
)

// Renew puts a copy in the place of a database whose lock nobody lets go of: whoever has it open has a file that nobody
// else sees from then on. Nobody may write to it meanwhile. A database that is not there is no error. After a crash the
// one or the other is there, and they are the same.
func Renew(path string) error {
	if err := renew(path); err != nil {
		return fmt.Errorf("renew %s: %w", path, err)
	}
	return nil
}

func renew(path string) error {
	from, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	// What a crash left of an earlier copy is written over.
	to, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(to, from); err == nil {
		err = to.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = durable.Publish(to, path)
	}
	if err != nil {
		to.Close()
		os.Remove(to.Name())
	}
	return err
}
