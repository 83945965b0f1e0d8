//go:build real

package zombie

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Environment of a child that locks a file and then looks a name up.
const (
	envLock = "ZOMBIE_LOCK"
	envLook = "ZOMBIE_LOOK"
	envOpen = "ZOMBIE_OPEN" // has the name opened instead, and then with "poll" or "close" that done
)

func TestMain(m *testing.M) {
	if file := os.Getenv(envLock); file != "" {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		fmt.Println("locked", err)
		// Not on the first thread: it is to end.
		done := make(chan struct{})
		go func() {
			if os.Getenv(envOpen) == "" {
				os.Lstat(os.Getenv(envLook))
				close(done)
				return
			}
			fd, err := unix.Open(os.Getenv(envLook), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			fmt.Println("opened", err)
			switch os.Getenv(envOpen) {
			case "poll":
				unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
				close(done)
			case "close":
				unix.Close(fd)
				close(done)
			}
		}()
		if n, _ := os.Stdin.Read(make([]byte, 1)); n == 0 {
			<-done
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// deaf is a mount in which everybody waits.
type deaf struct {
	dir string
	fd  int
}

func mountDeaf(t *testing.T) *deaf {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	m := &deaf{filepath.Join(t.TempDir(), "mnt"), fd}
	must(t, os.Mkdir(m.dir, 0o700))
	must(t, unix.Mount("deaf", m.dir, "fuse.deaf", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)))
	t.Cleanup(m.end)
	init := make([]byte, 64) // struct fuse_init_out of linux/fuse.h
	binary.LittleEndian.PutUint32(init, 7)
	binary.LittleEndian.PutUint32(init[4:], 31)
	m.answer(t, m.request(t), 0, init)
	return m
}

// answer answers a request, with a struct fuse_out_header of linux/fuse.h before the rest.
func (m *deaf) answer(t *testing.T, request []byte, errno unix.Errno, rest []byte) {
	t.Helper()
	b := make([]byte, 16, 16+len(rest))
	binary.LittleEndian.PutUint32(b, uint32(cap(b)))
	binary.LittleEndian.PutUint32(b[4:], uint32(-int32(errno)))
	copy(b[8:16], request[8:16])
	_, err := unix.Write(m.fd, append(b, rest...))
	must(t, err)
}

// answerOpen has the name that is asked for be an empty file, which is opened.
func (m *deaf) answerOpen(t *testing.T) {
	t.Helper()
	entry := make([]byte, 40+88) // struct fuse_entry_out, which ends in a fuse_attr
	const number = 2
	entry[0], entry[40] = number, number
	binary.LittleEndian.PutUint32(entry[40+60:], unix.S_IFREG|0o600)
	m.answer(t, m.request(t), 0, entry)
	m.answer(t, m.request(t), 0, make([]byte, 16)) // struct fuse_open_out
}

func (m *deaf) request(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 1<<17)
	n, err := unix.Read(m.fd, b)
	must(t, err)
	return b[:n]
}

// end leaves nobody waiting.
func (m *deaf) end() {
	if m.fd >= 0 {
		unix.Close(m.fd)
		m.fd = -1
		unix.Unmount(m.dir, unix.MNT_DETACH)
	}
}

func TestRealAKilledProcessThatCannotEndIsHarmless(t *testing.T) {
	for name, end := range map[string]func(*exec.Cmd, io.Writer) error{
		"killed":           func(c *exec.Cmd, _ io.Writer) error { return c.Process.Kill() },
		"ending by itself": func(_ *exec.Cmd, in io.Writer) error { _, err := in.Write([]byte{1}); return err },
	} {
		t.Run(name, func(t *testing.T) { stuck(t, "", end) })
		// Closing what it has open is to be answered, too, and then its other files cannot be seen.
		t.Run(name+", with a file open", func(t *testing.T) { stuck(t, "open", end) })
		// As who has just mounted does: see pollHack of go-fuse.
		t.Run(name+", while it polls", func(t *testing.T) { stuck(t, "poll", end) })
		t.Run(name+", while it closes", func(t *testing.T) { stuck(t, "close", end) })
	}
}

// stuck has a process end that cannot.
func stuck(t *testing.T, open string, endIt func(*exec.Cmd, io.Writer) error) {
	m := mountDeaf(t)
	lock := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envLock+"="+lock, envLook+"="+filepath.Join(m.dir, "x"), envOpen+"="+open)
	out, err := cmd.StdoutPipe()
	must(t, err)
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		m.end()
		cmd.Wait()
	})
	says(t, out, "locked <nil>\n")
	if open == "" {
		m.request(t) // the kernel waits for the answer to what was taken
	} else {
		m.answerOpen(t)
		says(t, out, "opened <nil>\n")
	}
	if open == "poll" || open == "close" {
		m.request(t)
	}
	found, err := Locking(lock)
	if err != nil || len(found) != 1 || found[0].PID != cmd.Process.Pid {
		t.Fatalf("locked by %v, %v", found, err)
	}
	p := found[0]
	if err := p.Harmless(); !errors.Is(err, ErrAlive) || p.Killed() {
		t.Fatalf("alive, it is harmless: %v, killed: %v", err, p.Killed())
	}
	must(t, endIt(cmd, in))
	for end := time.Now().Add(time.Minute); p.Harmless() != nil; {
		if time.Now().After(end) {
			t.Fatal(p.Harmless())
		}
		<-time.After(time.Millisecond)
	}
	for end := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		if left, err := p.left(); err == nil && len(left) == 1 { // the one that waits
			break
		} else if time.Now().After(end) {
			t.Fatalf("%d threads are left, %v", len(left), err)
		}
	}
	if p.Gone() || !p.Killed() || p.Mounting() {
		t.Errorf("gone: %v, killed: %v, mounting: %v", p.Gone(), p.Killed(), p.Mounting())
	}
	if found, err := Locking(lock); err != nil || len(found) != 1 || found[0] != p {
		t.Errorf("locked by %v, %v", found, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended: %v", err)
	}
	m.end()
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, p.Wait(ctx))
	if found, err := Locking(lock); err != nil || len(found) > 0 {
		t.Errorf("locked by %v, %v", found, err)
	}
}

func says(t *testing.T, r io.Reader, want string) {
	t.Helper()
	said := make([]byte, 64)
	if n, err := r.Read(said); err != nil || string(said[:n]) != want {
		t.Fatalf("%q, %v", said[:n], err)
	}
}
