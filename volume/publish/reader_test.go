package publish_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/volary/volary/volume"
)

func TestAHostThatMayOnlyReadChangesNoVolumeOfOthers(t *testing.T) {
	w := newWorld(t)
	writer, reader := w.host(), w.host()
	reader.close()
	reader.reads = true
	reader.open()
	writer.do(&volume.Create{Name: "data"})
	head := writer.change("data", "a", "one")
	reader.learn()
	for _, op := range []volume.Operation{
		&volume.Mount{Name: "data"}, &volume.Rename{Name: "data", To: "other"}, &volume.Remove{Name: "data"},
		&volume.Rollback{Name: "data", To: "1"}, &volume.Commit{Name: "data"}, &volume.Create{Name: "more"}, &volume.Clone{Name: "data", To: "copy"},
	} {
		if _, err := reader.Do(t.Context(), op); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", volume.OperationName(op), err)
		}
	}
	dir := reader.do(&volume.Mount{Name: "data", ReadOnly: true}).Path
	if got, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(got) != "one" {
		t.Errorf("read %q, %v", got, err)
	}
	if got := reader.names()["data"]; got != head {
		t.Errorf("the head is %s, not %s", got, head)
	}
}
