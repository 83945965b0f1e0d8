//go:build real

package volume_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/holder"
	"github.com/volary/volary/volume/overlay"
)

// quotaDisk makes a disk with project quotas, if this kernel has them, and says how to unmount it.
func quotaDisk(t *testing.T) (dir string, quotas bool) {
	t.Helper()
	top := t.TempDir()
	image, dir := filepath.Join(top, "image"), filepath.Join(top, "disk")
	run := func(name string, args ...string) error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Logf("%s %v: %s", name, args, bytes.TrimSpace(out))
		}
		return err
	}
	for _, err := range []error{os.WriteFile(image, nil, 0o600), os.Truncate(image, 256<<20), os.Mkdir(dir, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	err := run("mkfs.ext4", "-q", "-m", "0", "-O", "quota,project", "-E", "quotatype=prjquota", image)
	if quotas = err == nil && run("mount", "-o", "loop,prjquota", image, dir) == nil; !quotas {
		err = errors.Join(run("mkfs.ext4", "-q", "-F", "-m", "0", image), run("mount", "-o", "loop", image, dir))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run("umount", dir); err != nil {
			t.Error(err)
		}
	})
	return dir, quotas
}

func TestRealWhatFitsTheSizeIsCommitted(t *testing.T) {
	disk, quotas := quotaDisk(t)
	h := newHostAt(t, disk, overlay.New(holder.NewLower(holder.LowerOptions{})))
	h.do(&volume.Create{Name: "data", Options: map[string]string{"size": "8MiB"}})
	described := func() {
		t.Helper()
		if i, err := h.Describe(t.Context(), "data"); err != nil || i.SizeEnforced == nil || *i.SizeEnforced != quotas {
			t.Errorf("there are quotas: %v; described as %+v, %v", quotas, i, err)
		}
	}
	described()
	dir := h.do(&volume.Mount{Name: "data"}).Path
	described()
	i, err := h.Inspect(t.Context(), "data")
	if h.must(err); *i.SizeEnforced != quotas {
		t.Errorf("the size is enforced: %v, there are quotas: %v", *i.SizeEnforced, quotas)
	}
	f, err := os.Create(filepath.Join(dir, "f"))
	h.must(err)
	defer f.Close()
	chunk, noise := make([]byte, 64<<10), rand.NewChaCha8([32]byte{})
	var written bytes.Buffer
	for written.Len() < 16<<20 {
		noise.Read(chunk)
		n, err := f.Write(chunk)
		written.Write(chunk[:n])
		if errors.Is(err, unix.EDQUOT) || errors.Is(err, syscall.ENOSPC) {
			break
		}
		h.must(err)
	}
	h.must(f.Close())
	if full := written.Len() <= 8<<20; full != quotas {
		t.Errorf("%d bytes were written, there are quotas: %v", written.Len(), quotas)
	}
	h.do(&volume.Commit{Name: "data"})
	if h.files("data")["f"] != written.String() {
		t.Error("what was written is not what was committed")
	}
	h.do(&volume.Set{Name: "data", Options: map[string]string{"size": "16MiB"}})
	h.write(filepath.Join(dir, "g"), string(written.Bytes()[:2<<20]))
	h.do(&volume.Unmount{Name: "data"})
	if got := h.files("data"); got["f"] != written.String() || got["g"] != written.String()[:2<<20] {
		t.Error("what was written is not what was committed when it was unmounted")
	}
	h.must(h.Sweep(t.Context()))
	dir = h.do(&volume.Mount{Name: "data"}).Path
	h.write(filepath.Join(dir, "h"), written.String())
	h.do(&volume.Unmount{Name: "data"})
	if got := h.files("data"); got["h"] != written.String() {
		t.Error("the size is of what is changed now, not of all that was")
	}
}
