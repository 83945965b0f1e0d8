package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/volary/volary/volume/holder"
)

// listening is a service manager that wants to hear from what is started next, and what it hears.
func listening(t *testing.T, limit string) <-chan string {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // a short name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", limit)
	heard := make(chan string, 10_000)
	go func() {
		defer close(heard)
		buf := make([]byte, 1<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			heard <- string(buf[:n])
		}
	}()
	return heard
}

// hears waits until a message comes, others before it or not.
func hears(t *testing.T, heard <-chan string, message string) {
	t.Helper()
	for late := time.After(30 * time.Second); ; {
		select {
		case m := <-heard:
			if m == message {
				return
			}
		case <-late:
			t.Fatalf("nobody says %s", message)
		}
	}
}

// inside runs a verb in this process until end is called, which returns its exit code.
func inside(t *testing.T, args ...string) (end func() int) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	code := make(chan int, 1)
	var errs bytes.Buffer
	go func() { code <- run(ctx, append([]string{"volary"}, args...), io.Discard, &errs) }()
	return func() int {
		stop()
		c := <-code
		if c != exitOK {
			t.Logf("volary %q: %d, %s", args, c, errs.Bytes())
		}
		return c
	}
}

func TestADaemonTellsWhoSupervisesIt(t *testing.T) {
	heard := listening(t, "30000")
	home := filepath.Join(t.TempDir(), "home")
	end := inside(t, "--home", home, "daemon")
	hears(t, heard, isReady)
	if _, err := net.Dial("unix", filepath.Join(home, socketName)); err != nil {
		t.Errorf("ready, it cannot be asked: %v", err)
	}
	for range 5 {
		hears(t, heard, isAlive)
	}
	if left := os.Getenv("NOTIFY_SOCKET") + os.Getenv("WATCHDOG_USEC"); left != "" {
		t.Errorf("what it starts speaks for it: %q", left)
	}
	end()
	hears(t, heard, isStopping)
}

func TestADaemonRefusesALimitThatIsNone(t *testing.T) {
	for _, limit := range []string{"0", "-1", "soon", "9223372036854775807"} {
		listening(t, limit)
		if _, err := openSupervisor(); !errors.As(err, new(usageError)) {
			t.Errorf("%s: %v", limit, err)
		}
	}
	t.Setenv("WATCHDOG_USEC", "5")
	t.Setenv("WATCHDOG_PID", "1")
	if s, err := openSupervisor(); err != nil || s.limit != 0 {
		t.Errorf("what is another process's: %v, %v", s, err)
	}
}

func TestAGroupThatHasNoNameHereIsANumber(t *testing.T) {
	for name, want := range map[string]int{"": -1, "root": 0, "0": 0, "4000123": 4000123} {
		if got, err := socketGroup(name); err != nil || got != want {
			t.Errorf("%q: %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"-1", "no-such-group", "99999999999"} {
		if n, err := socketGroup(name); !errors.As(err, new(usageError)) {
			t.Errorf("%q: %d, %v", name, n, err)
		}
	}
}

func TestAHolderOfAServiceTakesOverFromOneThatWasThere(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	client := &holder.Client{Socket: filepath.Join(home, holderSocket)}
	first := listening(t, "")
	endFirst := inside(t, "--home", home, "holder", "--stay")
	hears(t, first, isReady)
	second := listening(t, "")
	endSecond := inside(t, "--home", home, "holder", "--stay")
	hears(t, second, isReady)
	if code := endFirst(); code != exitOK {
		t.Errorf("the first one: exit code %d", code)
	}
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := client.Put(t.Context(), "a", nil)
		if err == nil {
			break
		}
		if time.Now().After(late) {
			t.Fatal(err)
		}
	}
	if err := client.Drop(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if code := endSecond(); code != exitOK {
		t.Errorf("the second one: exit code %d", code)
	}
}
