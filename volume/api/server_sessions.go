package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"iter"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/importer"
)

// openSession is a session that a connection holds open.
type openSession struct {
	Session
	claims claims
	uid    uint32
	end    chan struct{} // closed by who asks for the end
	ended  chan struct{} // closed after it
	once   sync.Once

	mu   sync.Mutex
	over bool
	uses sync.WaitGroup // requests that name the session
}

// GetInto is Get for a caller who has room for the bytes.
func (x *openSession) GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	return getInto(ctx, x.Session, c, buf)
}

// Local implements [snapshot.Layered].
func (x *openSession) Local() snapshot.Blocks { return snapshot.Local(x.Session) }

// Far reports whether any of cs is got from elsewhere.
func (x *openSession) Far(ctx context.Context, cs ...cid.Cid) bool { return far(ctx, x.Session, cs...) }

// GetMany implements [snapshot.ManyGetter].
func (x *openSession) GetMany(ctx context.Context, cs ...cid.Cid) iter.Seq2[blocks.Block, error] {
	return snapshot.GetMany(ctx, x.Session, cs...)
}

// hold keeps the session from ending until release. One that is to end is over for those who come later.
func (x *openSession) hold() (release func(), err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return nil, ErrSession
	}
	x.uses.Add(1)
	return x.uses.Done, nil
}

// finish ends the session once no request uses it.
func (x *openSession) finish() error {
	x.mu.Lock()
	x.over = true
	x.mu.Unlock()
	x.uses.Wait()
	return x.Close()
}

type sessionTable struct {
	mu  sync.Mutex
	all map[string]*openSession
}

func (t *sessionTable) add(x *openSession) (id string) {
	id = rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all[id] = x
	return id
}

func (t *sessionTable) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, id)
}

// find returns a caller's session; one of another user is not there.
func (t *sessionTable) find(id string, uid uint32) (*openSession, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.all[id]
	if x == nil || x.uid != uid {
		return nil, fmt.Errorf("session %.32q: %w", id, ErrSession)
	}
	return x, nil
}

// session is the one the request names. It does not end before the request does.
func (c *call) session() (*openSession, error) {
	id := c.r.Header.Get(sessionHeader)
	if id == "" {
		return nil, fmt.Errorf("header %s is missing: %w", sessionHeader, ErrRequest)
	}
	x, err := c.server.sessions.find(id, c.peer.UID)
	if err != nil {
		return nil, err
	}
	if c.release, err = x.hold(); err != nil {
		return nil, fmt.Errorf("session %.32q: %w", id, err)
	}
	return x, nil
}

// within refuses a request that relies on a session which has ended. One that names none relies on none.
func (c *call) within() error {
	if c.r.Header.Get(sessionHeader) == "" {
		return nil
	}
	_, err := c.session()
	return err
}

// openSession begins a session and holds it until its connection ends, the caller asks or the server stops.
func (s *Server) openSession(c *call) error {
	who := s.callers.of(c.peer.UID)
	if !who.take(&who.sessions, maxSessions) {
		return fmt.Errorf("%d sessions of user %d are open: %w", maxSessions, c.peer.UID, ErrTooMany)
	}
	defer who.give(&who.sessions)
	host, err := s.host.Sessions.Session(c.r.Context())
	if err != nil {
		return err
	}
	x := &openSession{Session: ForCaller(host, c.peer.UID), uid: c.peer.UID, end: make(chan struct{}), ended: make(chan struct{})}
	id := s.sessions.add(x)
	s.metrics.sessions.Inc()
	defer func() {
		s.sessions.remove(id)
		if err := x.finish(); err != nil {
			s.log.Error("session ended badly", logError, err, logUID, c.peer.UID, logPID, c.peer.PID)
		}
		s.metrics.sessions.Dec()
		close(x.ended)
	}()
	return c.lines(func(l *lineWriter) error {
		if err := l.line(sessionJSON{id}); err != nil {
			return err
		}
		if err := l.flush(); err != nil {
			return err
		}
		select {
		case <-x.end:
		case <-c.r.Context().Done():
		case <-s.stopping:
			return errStopping
		}
		return nil
	})
}

// closeSession ends a session and returns once it has ended.
func (s *Server) closeSession(c *call) error {
	x, err := s.sessions.find(c.r.PathValue("id"), c.peer.UID)
	if err != nil {
		return err
	}
	x.once.Do(func() { close(x.end) })
	select {
	case <-x.ended:
		return c.done()
	case <-c.r.Context().Done():
		return c.r.Context().Err()
	}
}

// loadStat answers a key with the value saved under it, or with no content.
func (s *Server) loadStat(c *call) error {
	x, err := c.session()
	if err != nil {
		return err
	}
	key, err := c.body(maxStatKey)
	if err != nil {
		return err
	}
	value, err := x.LoadStat(c.r.Context(), key)
	if err != nil {
		return err
	}
	if value == nil {
		return c.done()
	}
	return c.bytes(typeBytes, value)
}

// statBatch is how many bytes of records are saved at a time.
const statBatch = 4 << 20

func (s *Server) saveStat(c *call) error {
	x, err := c.session()
	if err != nil {
		return err
	}
	done, err := c.transfer()
	if err != nil {
		return err
	}
	defer done()
	in := newFrameReader(c.r.Body, c.r.ContentLength)
	var recs []importer.StatRecord
	size := 0
	for {
		rec, err := in.record()
		if err != nil && err != io.EOF {
			return err
		}
		last := err == io.EOF
		if !last {
			recs, size = append(recs, rec), size+len(rec.Key)+len(rec.Value)+len(rec.Roots)*64
		}
		if len(recs) > 0 && (last || size > statBatch) {
			if err := x.save(c.r.Context(), recs); err != nil {
				return err
			}
			recs, size = recs[:0], 0
		}
		if last {
			return c.done()
		}
	}
}

// save saves records, and of their claims those that hold.
func (x *openSession) save(ctx context.Context, recs []importer.StatRecord) error {
	for i := range recs {
		ok, err := x.claims.prove(ctx, x.Session, recs[i].Roots)
		if err != nil {
			return err
		}
		if !ok {
			recs[i].Roots = nil
		}
	}
	return x.SaveStat(ctx, recs)
}

// record reads a stat record; io.EOF at the end of the body.
func (f *frameReader) record() (importer.StatRecord, error) {
	var r importer.StatRecord
	var err error
	if r.Key, err = f.text("key", maxStatKey); err != nil {
		return r, err
	}
	if r.Value, err = f.text("value", maxStatValue); err != nil {
		return r, within(err)
	}
	n, err := f.uvarint()
	if err != nil {
		return r, within(err)
	}
	if n > maxStatRoots {
		return r, fmt.Errorf("%d roots of a stat record, at most %d are accepted: %w", n, maxStatRoots, ErrTooLarge)
	}
	for range n {
		c, err := f.cid()
		if err != nil {
			return r, within(err)
		}
		r.Roots = append(r.Roots, c)
	}
	return r, nil
}

// text reads a string; io.EOF at the end of the body. It takes memory as the bytes come.
func (f *frameReader) text(what string, limit int) ([]byte, error) {
	n, err := f.size(what, limit)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f.br, int64(n)))
	if err == nil && len(b) < n {
		err = errCut
	}
	return b, err
}

// adopt answers a list of roots with a byte each: 1 for those that are stored completely.
func (s *Server) adopt(c *call) error {
	x, err := c.session()
	if err != nil {
		return err
	}
	return c.ask(func(ctx context.Context, cs ...cid.Cid) ([]bool, error) { return x.Adopt(ctx, cs) })
}
