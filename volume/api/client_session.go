package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
)

type remoteSessions struct{ *client }

// Session begins a session on the server, which lasts as long as the connection it was begun on.
func (c remoteSessions) Session(ctx context.Context) (Session, error) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	giveUp := context.AfterFunc(ctx, cancel)
	s, err := c.begin(lasting)
	if !giveUp() {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		if s != nil {
			s.body.Close()
		}
		return nil, err
	}
	s.cancel, s.gone = cancel, make(chan struct{})
	go s.watch()
	return s, nil
}

func (c *client) begin(ctx context.Context) (*remoteSession, error) {
	res, err := c.do(ctx, request{method: http.MethodPost, path: prefix + "/sessions", stream: true, once: true})
	if err != nil {
		return nil, err
	}
	s := &remoteSession{client: c, body: res.Body, lines: json.NewDecoder(res.Body)}
	var first struct {
		sessionJSON
		errorLine
	}
	err = s.lines.Decode(&first)
	switch {
	case err != nil:
		err = c.lost(ctx, err)
	case first.Error != nil:
		err = c.errors.decode(*first.Error)
	case first.Session == "":
		err = fmt.Errorf("daemon on %s: a session without a name", c.path)
	default:
		s.remoteBlocks = remoteBlocks{client: c, session: first.Session}
		return s, nil
	}
	res.Body.Close()
	return nil, err
}

// remoteSession is a session on the server. When it ends there, everything through it fails, since nothing is
// protected any more.
type remoteSession struct {
	remoteBlocks
	client *client
	body   io.Closer
	lines  *json.Decoder
	cancel context.CancelFunc
	gone   chan struct{} // closed when the session's connection has ended

	mu     sync.Mutex
	err    error // why everything fails
	closed bool
}

var _ Session = (*remoteSession)(nil)

// watch waits for the end of the session's connection.
func (s *remoteSession) watch() {
	defer close(s.gone)
	defer s.body.Close()
	var last errorLine
	err := s.lines.Decode(&last)
	switch {
	case err == nil && last.Error != nil:
		err = s.client.errors.decode(*last.Error)
	case err == nil || err == io.EOF:
		err = errors.New("the daemon ended it")
	default:
		err = s.client.lost(context.Background(), err)
	}
	s.end(fmt.Errorf("%w: %w", ErrSession, err))
}

func (s *remoteSession) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *remoteSession) state() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session and returns when it has ended, on the server too.
func (s *remoteSession) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return nil
	}
	s.end(fmt.Errorf("%w: it was closed", ErrSession))
	ctx, done := context.WithTimeout(context.Background(), endTimeout)
	defer done()
	err := s.client.run(ctx, request{method: http.MethodDelete, path: prefix + "/sessions/" + s.session, once: true})
	// Without its connection the session ends whatever came of the request.
	s.cancel()
	<-s.gone
	if errors.Is(err, ErrSession) || errors.Is(err, snapshot.ErrUnavailable) {
		return nil
	}
	return err
}

func (s *remoteSession) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := s.state(); err != nil {
		return nil, err
	}
	return s.remoteBlocks.Get(ctx, c)
}

func (s *remoteSession) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if err := s.state(); err != nil {
		return nil, err
	}
	return s.remoteBlocks.GetInto(ctx, c, buf)
}

func (s *remoteSession) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	if err := s.state(); err != nil {
		return failed(err, cs)
	}
	return s.remoteBlocks.GetMany(ctx, cs...)
}

func (s *remoteSession) Has(ctx context.Context, cs ...cid.Cid) ([]bool, error) {
	if err := s.state(); err != nil {
		return nil, err
	}
	return s.remoteBlocks.Has(ctx, cs...)
}

func (s *remoteSession) Put(ctx context.Context, bs ...blocks.Block) error {
	if err := s.state(); err != nil {
		return err
	}
	return s.remoteBlocks.Put(ctx, bs...)
}

// Sync also fails if the session has ended: what was put through it may have been collected by now.
func (s *remoteSession) Sync(ctx context.Context) error {
	if err := s.state(); err != nil {
		return err
	}
	if err := s.remoteBlocks.Sync(ctx); err != nil {
		return err
	}
	return s.state()
}

func (s *remoteSession) LoadStat(ctx context.Context, key []byte) ([]byte, error) {
	if err := s.state(); err != nil {
		return nil, err
	}
	if len(key) > maxStatKey {
		return nil, nil
	}
	return s.client.read(ctx, s.request("/stat/load").with(key), maxStatValue)
}

// SaveStat leaves out what is too large for the server: a cache may forget.
func (s *remoteSession) SaveStat(ctx context.Context, recs []importer.StatRecord) error {
	if err := s.state(); err != nil {
		return err
	}
	var body []byte
	for i, r := range recs {
		if len(r.Key) <= maxStatKey && len(r.Value) <= maxStatValue && len(r.Roots) <= maxStatRoots {
			if err := checkCIDs(r.Roots...); err != nil {
				return err
			}
			body = appendRecord(body, r)
		}
		if len(body) > statBatch || i == len(recs)-1 && len(body) > 0 {
			if err := s.client.run(ctx, s.request("/stat/save").with(body)); err != nil {
				return err
			}
			body = nil
		}
	}
	return nil
}

func (s *remoteSession) Adopt(ctx context.Context, roots []cid.Cid) ([]bool, error) {
	if err := s.state(); err != nil {
		return nil, err
	}
	return s.client.ask(ctx, s.request("/adopt"), roots)
}

func (s *remoteSession) request(path string) request {
	return request{method: http.MethodPost, path: prefix + path, session: s.session}
}

func appendRecord(b []byte, r importer.StatRecord) []byte {
	b = appendUvarint(appendString(appendString(b, r.Key), r.Value), len(r.Roots))
	for _, c := range r.Roots {
		b = appendCID(b, c)
	}
	return b
}
