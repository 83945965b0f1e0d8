package nettest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	piece = 32 << 10 // bytes that are read at once
	under = 256      // pieces that are on the way at most
)

// Relay returns the port of an address Here at which the host's daemon is reached, each byte so much later, each way.
func (n *Network) Relay(to *Host, delay time.Duration) (port int) {
	n.t.Helper()
	return n.relay(to, fmt.Sprintf("%s:%d", to.IP, Port), delay)
}

func (n *Network) relay(of *Host, to string, delay time.Duration) (port int) {
	n.t.Helper()
	l, err := net.Listen("tcp4", n.Here+":0")
	of.must(err)
	r := &relay{to: to, delay: delay, all: map[net.Conn]bool{}}
	r.work.Go(func() { r.accept(l) })
	n.t.Cleanup(func() {
		_ = l.Close()
		r.close()
	})
	return l.Addr().(*net.TCPAddr).Port
}

type relay struct {
	to    string
	delay time.Duration
	work  sync.WaitGroup

	mu  sync.Mutex
	all map[net.Conn]bool // nil once it is closed
}

func (r *relay) close() {
	r.mu.Lock()
	for c := range r.all {
		_ = c.Close()
	}
	r.all = nil
	r.mu.Unlock()
	r.work.Wait()
}

// hold remembers a connection, unless the relay is closed.
func (r *relay) hold(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		_ = c.Close()
		return false
	}
	r.all[c] = true
	return true
}

func (r *relay) letGo(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = c.Close()
	delete(r.all, c)
}

func (r *relay) accept(l net.Listener) {
	for {
		in, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && r.hold(in) {
			r.work.Go(func() { r.join(in) })
		}
	}
}

func (r *relay) join(in net.Conn) {
	defer r.letGo(in)
	out, err := net.DialTimeout("tcp4", r.to, 5*time.Second)
	if err != nil || !r.hold(out) {
		return
	}
	defer r.letGo(out)
	var both sync.WaitGroup
	both.Go(func() { r.carry(in, out) })
	both.Go(func() { r.carry(out, in) })
	both.Wait()
}

// carry has what is read from one be written to the other, later. At the end both are closed.
func (r *relay) carry(from, to net.Conn) {
	type bytes struct {
		data []byte
		at   time.Time
	}
	way := make(chan bytes, under)
	var writing sync.WaitGroup
	writing.Go(func() {
		for b := range way {
			time.Sleep(time.Until(b.at))
			if _, err := to.Write(b.data); err != nil {
				_ = from.Close()
			}
		}
		_ = to.Close()
	})
	for {
		data := make([]byte, piece)
		n, err := from.Read(data)
		if err != nil {
			break
		}
		way <- bytes{data[:n], time.Now().Add(r.delay)}
	}
	close(way)
	writing.Wait()
}
