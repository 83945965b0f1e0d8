package main

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	libpeer "github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sys/unix"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/p2p"
)

// A reader reads the file from where it is, and says how long that took.
type reader struct {
	name  string
	peers int // of volary that have it; 0: it is not volary that reads
	read  func(ctx context.Context, p *networkPlan, s *sources, r reader, check bool) (spent, error)
}

func readers() []reader {
	return []reader{
		{streamName, 0, readStream},
		{catName, 1, readFresh(readCat)},
		{catThreeName, 3, readFresh(readCat)},
		{throughName, 1, readFresh(readVolume)},
		{throughThreeName, 3, readFresh(readVolume)},
		{hydrateName, 1, readFresh(readHydrate)},
		{hydrateThreeName, 3, readFresh(readHydrate)},
		{restoreName, 1, readFresh(readRestore)},
		{getName, 0, readIPFS},
		{curlName, 0, readCurl},
	}
}

func readerNames() []string {
	var names []string
	for _, r := range readers() {
		names = append(names, r.name)
	}
	return names
}

// spent is what a read took.
type spent struct{ wall, cpu time.Duration }

// sources are those that have the file, each in its own way.
type sources struct {
	dir  string // for all that is made of it
	file string
	size int64
	sum  string  // what sha256sum says of it
	have []*host // their daemons do not run
	root string
	ipfs string // its CID
	kubo *ipfs

	volumes int // that were made to read it
}

const bigName = "big"

// measureRead has all readers read a new file in each round.
func (p *networkPlan) measureRead(ctx context.Context, g networkGroup) error {
	for round := range p.rounds {
		if err := p.readRound(ctx, g, round); err != nil {
			return err
		}
	}
	return nil
}

func (p *networkPlan) readRound(ctx context.Context, g networkGroup, round int) (err error) {
	s := &sources{dir: filepath.Join(p.work, "read"), size: p.sizes.file}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := p.fillSources(ctx, g, s); err != nil {
		return err
	}
	byName := map[string]reader{}
	for _, r := range readers() {
		byName[r.name] = r
	}
	return p.inTurns(g, round, func(who string) error {
		r := byName[who]
		if why := cannotMount(); why != "" && (who == throughName || who == throughThreeName) {
			p.res.leaveOut(who, errors.New(why))
			return nil
		}
		unix.Sync()
		took, err := r.read(ctx, p, s, r, round == 0)
		if err != nil {
			return err
		}
		p.res.record(readSpeed, who, float64(s.size)/1e9/took.wall.Seconds())
		p.res.record(readProcessor, who, took.cpu.Seconds())
		return nil
	})
}

// fillSources makes a file and gives it to those that are asked for it.
func (p *networkPlan) fillSources(ctx context.Context, g networkGroup, s *sources) error {
	src := filepath.Join(s.dir, "src")
	if err := os.MkdirAll(src, 0o755); err != nil {
		return err
	}
	s.file = filepath.Join(src, bigName)
	if err := makeRandom(ctx, s.file, s.size); err != nil {
		return err
	}
	var err error
	if s.sum, err = sumOf(ctx, s.file); err != nil {
		return err
	}
	peers := 0
	for _, r := range readers() {
		if p.wants(g, r.name) {
			peers = max(peers, r.peers)
		}
	}
	for i := range peers {
		h, err := p.member(ctx, s.dir, fmt.Sprint("has-", i), s.have[:min(i, 1)]...)
		if err != nil {
			return err
		}
		s.have = append(s.have, h)
		root, err := h.run(ctx, "snapshot", src)
		if err != nil {
			return err
		}
		if i == 0 {
			s.root = root
		}
	}
	for _, h := range s.have {
		if err := h.stop(); err != nil {
			return err
		}
	}
	if !p.wants(g, getName) {
		return nil
	}
	if s.kubo, err = p.newKubo(ctx, s, "kubo-has"); err != nil {
		return err
	}
	s.ipfs, err = quietly(command(ctx, s.kubo.env, s.kubo.bin, "add", "-Q", "--progress=false", s.file))
	return err
}

func (s *sources) close() error {
	var err error
	for _, h := range s.have {
		err = errors.Join(err, h.close())
	}
	return errors.Join(err, removeAll(s.dir))
}

func makeRandom(ctx context.Context, path string, size int64) error {
	var seed [32]byte
	_, _ = crand.Read(seed[:])
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(rand.NewChaCha8(seed), size), make([]byte, 1<<20))
	return errors.Join(err, f.Close(), ctx.Err())
}

// sumOf is the SHA-256 of a file as text.
func sumOf(ctx context.Context, path string) (string, error) {
	out, err := quietly(command(ctx, os.Environ(), "sha256sum", path))
	return out[:min(len(out), 64)], err
}

// same says whether a file has the bytes that it should.
func (s *sources) same(ctx context.Context, path string) error {
	if sum, err := sumOf(ctx, path); err != nil || sum != s.sum {
		return errors.Join(fmt.Errorf("%s is not what was read", path), err)
	}
	return nil
}

// spend measures what step takes, and what the processes of pids and this one take of the processor meanwhile.
func spend(pids []int, step func() (cpu time.Duration, err error)) (spent, error) {
	all := func() (sum time.Duration, err error) {
		for _, pid := range pids {
			n, err := cpuTime(pid)
			if err != nil {
				return 0, err
			}
			sum += n
		}
		var u unix.Rusage
		err = unix.Getrusage(unix.RUSAGE_SELF, &u)
		return sum + time.Duration(u.Utime.Nano()+u.Stime.Nano()), err
	}
	before, err := all()
	if err != nil {
		return spent{}, err
	}
	start := time.Now()
	own, err := step()
	if err != nil {
		return spent{}, err
	}
	wall := time.Since(start)
	after, err := all()
	return spent{wall, own + after - before}, err
}

// spendRunning measures a command.
func spendRunning(ctx context.Context, pids []int, env []string, name string, args ...string) (spent, error) {
	return spend(pids, func() (time.Duration, error) {
		cmd := command(ctx, env, name, args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("%s: %w\n%s", name, err, tail(stderr.String()))
		}
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
	})
}

// readStream is what a stream between two hosts carries, as volary connects them.
func readStream(ctx context.Context, _ *networkPlan, s *sources, _ reader, _ bool) (_ spent, err error) {
	key := namespace.SwarmKey{1}
	var hosts [2]*p2p.Host
	for i := range hosts {
		identity, _, err := crypto.GenerateEd25519Key(crand.Reader)
		if err != nil {
			return spent{}, err
		}
		if hosts[i], err = p2p.New(ctx, p2p.Options{Identity: identity, SwarmKey: &key, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}}); err != nil {
			return spent{}, err
		}
		defer func() { err = errors.Join(err, hosts[i].Close()) }()
	}
	const protocol = "/bench/stream"
	to, from := hosts[0].Libp2p(), hosts[1].Libp2p()
	from.SetStreamHandler(protocol, func(st network.Stream) {
		defer st.Close()
		data := bytes.Repeat([]byte{1}, 1<<20)
		for left := s.size; left > 0; left -= int64(len(data)) {
			if _, err := st.Write(data); err != nil {
				return
			}
		}
	})
	if err := to.Connect(ctx, libpeer.AddrInfo{ID: from.ID(), Addrs: from.Network().ListenAddresses()}); err != nil {
		return spent{}, err
	}
	return spend(nil, func() (time.Duration, error) {
		st, err := to.NewStream(ctx, from.ID(), protocol)
		if err != nil {
			return 0, err
		}
		defer st.Close()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{st}, make([]byte, 1<<20))
		if err == nil && n != s.size {
			err = fmt.Errorf("%d bytes came, not %d", n, s.size)
		}
		return 0, err
	})
}

// readCurl has curl read the file from a server in this process.
func readCurl(ctx context.Context, _ *networkPlan, s *sources, _ reader, _ bool) (_ spent, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return spent{}, err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(filepath.Dir(s.file))), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		err = errors.Join(err, server.Close())
		<-served
	}()
	return spendRunning(ctx, nil, os.Environ(), "curl", "--silent", "--fail", "--output", os.DevNull, "http://"+l.Addr().String()+"/"+bigName)
}
