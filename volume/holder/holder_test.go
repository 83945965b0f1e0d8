package holder

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holding runs a holder until the context is done and nothing is held, and returns a client of it.
func holding(t *testing.T, ctx context.Context, log *slog.Logger) *Client {
	t.Helper()
	c := &Client{Socket: filepath.Join(t.TempDir(), "holder.sock")}
	ready, done := make(chan struct{}), make(chan error)
	go func() {
		done <- Hold(ctx, c.Socket, HoldOptions{Idle: 50 * time.Millisecond, Stay: true, Ready: func() { close(ready) }, Logger: log})
	}()
	<-ready
	t.Cleanup(func() { must(t, <-done) })
	return c
}

func TestAHolderAnswersWhileSomebodyDoesNotListen(t *testing.T) {
	c := holding(t, t.Context(), nil)
	const many = 2000
	for i := range many {
		must(t, c.Put(t.Context(), fmt.Sprint(i), nil))
	}
	deaf, err := c.dial()
	must(t, err)
	defer deaf.Close()
	must(t, send(deaf, request{Version: version, Op: opList}))
	var first reply
	_, err = receive(deaf, &first) // and nothing of what follows
	must(t, err)
	for i := range many {
		ctx, cancel := context.WithTimeout(t.Context(), timeout/2)
		must(t, c.Drop(ctx, fmt.Sprint(i)))
		cancel()
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

func TestAHolderWithoutDescriptorsTriesOnceASecond(t *testing.T) {
	var log lines
	ctx, cancel := context.WithCancel(t.Context())
	c := holding(t, ctx, slog.New(slog.NewTextHandler(&log, nil)))
	must(t, c.Put(t.Context(), "x", nil)) // so that it goes on
	asks, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(asks)
	cancel()
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	none := was
	none.Cur = 1
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	began := time.Now()
	err = unix.Connect(asks, &unix.SockaddrUnix{Name: c.Socket})
	for err == nil && log.count("msg=accept") == 0 && time.Since(began) < timeout {
		<-time.After(time.Millisecond)
	}
	<-time.After(1500 * time.Millisecond)
	n, watched := log.count("msg=accept"), time.Since(began)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
	must(t, err)
	if most := 1 + int(watched/time.Second); n < 1 || n > most {
		t.Errorf("tried %d times in %v", n, watched)
	}
	must(t, c.Drop(t.Context(), "x"))
}

func TestAHolderThatStaysEndsWhenItIsToldAndHoldsNothing(t *testing.T) {
	const idle = 10 * time.Millisecond
	c := &Client{Socket: filepath.Join(t.TempDir(), "holder.sock")}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Hold(ctx, c.Socket, HoldOptions{Idle: idle, Stay: true, Ready: func() { close(ready) }})
	}()
	<-ready
	goesOn := func(why string) {
		t.Helper()
		select {
		case err := <-done:
			t.Fatalf("%s, it ended: %v", why, err)
		case <-time.After(20 * idle):
		}
	}
	goesOn("with nothing to hold")
	must(t, c.Put(t.Context(), "a", nil))
	end()
	goesOn("told to end while it holds something")
	must(t, c.Drop(t.Context(), "a"))
	must(t, <-done)
}

// A holder that is started finds one that is only about to begin, and ends.
func TestAHolderThatIsAboutToBeginIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	starts := filepath.Join(dir, "starts")
	c := &Client{Socket: filepath.Join(dir, "holder.sock"), Command: []string{"sh", "-c", "echo >>" + starts}}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	done := make(chan error, 1)
	go func() {
		for n := 0; n < 5 && ctx.Err() == nil; {
			<-time.After(time.Millisecond)
			text, _ := os.ReadFile(starts)
			n = len(text)
		}
		done <- Hold(ctx, c.Socket, HoldOptions{Idle: 10 * time.Millisecond, Stay: true})
	}()
	must(t, c.Put(t.Context(), "a", nil))
	end()
	must(t, c.Drop(t.Context(), "a"))
	must(t, <-done)
}
