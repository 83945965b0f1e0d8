//go:build real

package nettest

import (
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHostsReachEachOtherAndNothingElse(t *testing.T) {
	t.Parallel()
	n := New(t, program)
	a, b := n.Host("a"), n.Host("b")
	for _, h := range []*Host{a, b} {
		if out := h.Do("ip", "-4", "route"); strings.Count(out, "\n") != 1 || !strings.Contains(out, n.address(0)) {
			t.Errorf("host %s has routes\n%s", h.Name, out)
		}
		if name := strings.TrimSpace(h.Do("uname", "-n")); name != h.Name {
			t.Errorf("host %s is called %s", h.Name, name)
		}
	}
	reaches := func(h, to *Host) bool {
		_, err := h.Try(t.Context(), "bash", "-c", "timeout 1 bash -c ': </dev/tcp/"+to.IP+"/7777' 2>&1 | grep -q refused")
		return err == nil
	}
	for _, c := range []struct {
		what   string
		do     func()
		wanted bool
	}{
		{"at first", func() {}, true},
		{"parted", func() { n.Part([]*Host{a}, []*Host{b}) }, false},
		{"healed", n.Heal, true},
		{"together", func() { n.Part([]*Host{a, b}) }, true},
		{"cut off", a.Cut, false},
		{"joined again", n.Heal, true},
		{"all cut off", n.CutAll, false},
		{"healed again", n.Heal, true},
		{"isolated", n.Isolate, false},
	} {
		c.do()
		got := reaches(a, b)
		for over := time.Now().Add(10 * time.Second); c.wanted && !got && time.Now().Before(over); {
			got = reaches(a, b)
		}
		if got != c.wanted {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestAHostLosesPackets(t *testing.T) {
	t.Parallel()
	n := New(t, program)
	h := n.Host("a")
	// Only so many packets wait until it is known where the host is.
	if _, err := net.Dial("tcp4", h.IP+":9"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("nobody listens: %v", err)
	}
	n.Lose(50)
	c, err := net.Dial("udp4", h.IP+":9")
	h.must(err)
	defer c.Close()
	const sent = 1000
	for range sent {
		_, _ = c.Write([]byte("x")) // nobody is there, which comes back as an error
	}
	if lost := h.Lost(); lost < sent/3 || lost > sent*2/3 {
		t.Errorf("%d of %d packets were lost", lost, sent)
	}
}

func TestARelayIsLateEachWay(t *testing.T) {
	t.Parallel()
	const delay = 100 * time.Millisecond
	n := New(t, program)
	h := n.Host("a")
	echo, err := net.Listen("tcp4", n.Here+":0")
	h.must(err)
	defer echo.Close()
	go func() {
		if c, err := echo.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp4", net.JoinHostPort(n.Here, strconv.Itoa(n.relay(h, echo.Addr().String(), delay))))
	h.must(err)
	defer c.Close()
	began := time.Now()
	h.must(c.SetDeadline(began.Add(10 * time.Second)))
	_, err = c.Write([]byte("x"))
	h.must(err)
	_, err = c.Read(make([]byte, 1))
	if took := time.Since(began); err != nil || took < 2*delay {
		t.Errorf("an answer after %s, %v", took, err)
	}
}

func TestADaemonIsKilledAndStartsAgain(t *testing.T) {
	t.Parallel()
	n, hosts := joined(t, "a", "b")
	a, b := hosts[0], hosts[1]
	a.Volary("volume", "create", "data")
	head := a.write("data", "f", "one")
	arrives(t, "data", head, b)
	b.Kill()
	b.Start()
	b.connected(1)
	if got := b.Volary("cat", head+"/f"); got != "one" {
		t.Errorf("read %q", got)
	}
	_ = n
}
