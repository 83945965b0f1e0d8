package restorer

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// directFrom is the size in bytes from which a file is written past the page cache. Its pages would cost
	// more than the copy: several goroutines wait for the file's lock, and memory that was never touched has
	// to be had first. What is that large is not read again soon as a whole.
	directFrom = 64 << 20
	// directUnit is the alignment in bytes, of memory, offset and length, that every disk takes.
	directUnit = 4096
)

// openDirect opens the file of fd once more, for direct writes; -1 where that cannot be had.
func openDirect(fd int) int {
	direct, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return direct
}

// direct reports whether data can go to an offset past the page cache.
func direct(data []byte, offset int64) bool {
	return len(data) > 0 && len(data)%directUnit == 0 && offset%directUnit == 0 &&
		uintptr(unsafe.Pointer(unsafe.SliceData(data)))%directUnit == 0
}

// pwrite writes past the page cache what can be, and the rest through it. The two never touch the same page.
func (w *writer) pwrite(data []byte, offset int64) error {
	if w.direct >= 0 && direct(data, offset) {
		err := pwrite(w.direct, data, offset)
		if err != unix.EINVAL && err != unix.EOPNOTSUPP {
			return err
		}
		// A filesystem may take the flag and refuse the write.
	}
	return pwrite(w.fd, data, offset)
}
