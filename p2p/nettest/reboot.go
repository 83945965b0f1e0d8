package nettest

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
)

// Reboot ends all that runs on the host as a power cut does, but for what the disk has not got yet, with its mounts and
// its namespaces, and begins it anew with the files that it has, and with the name of another boot.
func (h *Host) Reboot() {
	h.t.Helper()
	h.endAll()
	h.daemon, h.spaces = nil, nil
	h.must(h.begin())
	h.connect()
	id := filepath.Join(h.Dir, "boot_id")
	b := make([]byte, 16)
	_, _ = rand.Read(b) // which does not fail
	h.must(os.WriteFile(id, fmt.Appendf(nil, "%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), 0o444))
	h.Do("mount", "--bind", id, "/proc/sys/kernel/random/boot_id")
}
