//go:build real

package modeltest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/volume/holder"
)

// envChild makes the test binary a child of a test: what it is to do, and where.
const (
	envChild = "MODEL_CHILD"
	envDir   = "MODEL_DIR"

	envThreads = "MODEL_THREADS" // that are not to run as long as the child lives
)

func TestMain(m *testing.M) {
	var err error
	ctx := context.Background()
	switch what := os.Getenv(envChild); what {
	case "":
		os.Exit(m.Run())
	case "live":
		err = live(ctx, os.Getenv(envDir))
	case "count":
		err = countUp(ctx, os.Getenv(envDir))
	case "hold":
		err = holder.Hold(ctx, socketOf(os.Getenv(envDir)), holder.HoldOptions{Idle: 100 * time.Millisecond, Ready: func() {
			os.NewFile(3, "ready").Write([]byte{1})
		}})
	case "stop":
		err = stopThreads(strings.Fields(os.Getenv(envThreads)))
	default:
		err = fmt.Errorf("unknown child %q", what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

func socketOf(dir string) string { return dir + "/holder" }

// held has the mounts of a directory kept by a process of their own.
func held(dir string) (holder.LowerOptions, error) {
	exe, err := os.Executable()
	return holder.LowerOptions{Holder: &holder.Client{
		Socket: socketOf(dir), Command: []string{"env", envChild + "=hold", envDir + "=" + dir, exe},
	}}, err
}

// letGo waits until nobody holds mounts of a directory, and nothing of it is open.
func letGo(dir string) error { return letGoOf(socketOf(dir)) }

func letGoOf(socket string) error {
	lock, err := os.OpenFile(socket+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	for end := time.Now().Add(startTime); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || err != unix.EWOULDBLOCK && err != unix.EINTR {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("mounts are still held, by whoever has %s.lock", socket)
		}
	}
}
