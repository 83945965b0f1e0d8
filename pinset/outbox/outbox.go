// Package outbox is a durable queue of pins and unpins for a [pinset.Set] that may be away: whoever wants something
// pinned does not wait for it.
//
// Start with [Open] and [Queue.Put]. What was put is told to the set sooner or later, again and again until the set
// takes it; [Queue.Waiting] shows what is left and why, [Queue.Wait] waits for one root.
//
// It guarantees: what Put returned from is told to the set, whatever crashes in between; of several wishes for one
// root and owner the last one is what comes of it; of pins of one group only the newest need go through, unless a pin says that it is
// to be kept; an unpin of a group waits for the pin that was put before it.
package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	bolt "go.etcd.io/bbolt"

	"github.com/volary/volary/pinset"
	"github.com/volary/volary/statedb"
)

// ErrClosed says that a queue was closed.
var ErrClosed = errors.New("outbox is closed")

// Defaults of Options.
const (
	DefaultInterval   = 10 * time.Second
	DefaultWorkers    = 4
	DefaultTimeout    = time.Minute
	DefaultMinBackoff = 500 * time.Millisecond
	DefaultMaxBackoff = time.Minute
)

// Steps at which a crash may come. Each label is reached before the step is taken.
const (
	StepQueue = "wish-recorded"
	StepSend  = "set-told"
	StepRetry = "failure-recorded"
	StepDone  = "wish-forgotten"
)

// Options of a Queue. Set is required.
type Options struct {
	Set pinset.Set
	// Pin pins what an entry says, Args included; nil adds its Pin to Set. It does nothing new when it is called again.
	Pin func(ctx context.Context, e Entry) error

	Interval   time.Duration            // between two pins of one group; DefaultInterval if zero
	Workers    int                      // how many are told to the set at once
	Timeout    time.Duration            // of one attempt
	MinBackoff time.Duration            // after the first failure; doubled after each other one
	MaxBackoff time.Duration            // the most
	Logger     *slog.Logger             // nil discards
	Observe    func(Outcome)            // nil, or told of each attempt; it must not wait, nor call the Queue
	Step       func(label string) error // nil, or called before each durable step; its error stops there
}

func (o Options) withDefaults() Options {
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.Workers = cmp.Or(o.Workers, DefaultWorkers)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.MinBackoff = cmp.Or(o.MinBackoff, DefaultMinBackoff)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, DefaultMaxBackoff)
	if o.Pin == nil {
		o.Pin = func(ctx context.Context, e Entry) error { return o.Set.Add(ctx, e.Pin) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Op is what is to be done with a root.
type Op string

const (
	Pin   Op = "pin"
	Unpin Op = "unpin"
)

// Entry is a wish.
type Entry struct {
	Op  Op         `json:"op"`
	Pin pinset.Pin `json:"pin"` // of an Unpin only root and owner

	// Group is what pins replace each other in, such as a volume. The first one goes at once; of those that come
	// within the interval after it only the newest is left. An unpin of a group waits until a pin of the group that was
	// waiting has gone through. Without a group nothing is replaced.
	Group string `json:"group,omitempty"`
	// Keep says that a pin must go through, and at once, whatever comes after it in its group.
	Keep bool `json:"keep,omitempty"`
	// Args are for Options.Pin, such as how many replicas there are to be.
	Args map[string]string `json:"args,omitempty"`
}

// Waiting is an entry that did not go through yet.
type Waiting struct {
	Entry
	Since    time.Time // when it was put, or the first pin that it replaces
	Attempts int
	Tried    time.Time // the last attempt
	Error    string    // of the last attempt
	Next     time.Time // when it is tried next; zero while it is held
	Sending  bool      // it is tried now
	Held     bool      // it waits for a pin of its group
}

// Outcome is what came of one attempt.
type Outcome struct {
	Entry Entry
	Err   error
	Took  time.Duration
	Age   time.Duration // since it was put
}

// Stats counts since Open, but for what waits.
type Stats struct {
	Waiting, Sending                   int
	Oldest                             time.Time // when the oldest of what waits was put; zero if nothing does
	Pinned, Unpinned, Failed, Replaced uint64
	LastError                          string
	LastSuccess, LastFailure           time.Time
}

// Queue is an outbox. It must be made by Open; all methods are safe for concurrent use.
type Queue struct {
	o       Options
	db      *bolt.DB
	ctx     context.Context // ends with Close; what is tried then is not recorded as failed
	cancel  context.CancelFunc
	workers sync.WaitGroup // the loop, and who talks to the set
	wake    chan struct{}

	mu      sync.Mutex // held also while a change is written, so that memory and disk go the same way
	items   map[pinKey]*item
	due     dueHeap
	groups  map[string]*group
	sending map[cid.Cid]bool // the roots that the set is being told of: one owner at a time
	drains  int              // how many have begun
	stats   Stats
	changed chan struct{} // closed, and made anew, when an attempt has ended
	closed  bool
}

// Open opens a queue in a file, which it makes if it is missing, and goes on with what is in it.
func Open(path string, o Options) (*Queue, error) {
	if o.Set == nil {
		return nil, errors.New("outbox without a set")
	}
	db, err := statedb.Open(path, stateVersion, bucketWishes)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	q := &Queue{
		o: o.withDefaults(), db: db, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1),
		items: map[pinKey]*item{}, sending: map[cid.Cid]bool{}, groups: map[string]*group{}, changed: make(chan struct{}),
	}
	if err := q.load(); err != nil {
		cancel()
		return nil, errors.Join(&statedb.DamagedError{Path: path, Err: err}, db.Close())
	}
	q.workers.Go(q.run)
	return q, nil
}

// Close stops; what did not go through waits for the next Open. To give it a chance, Drain before.
func (q *Queue) Close() error {
	q.mu.Lock()
	closed := q.closed
	q.closed = true
	q.mu.Unlock()
	if closed {
		return ErrClosed
	}
	q.cancel()
	q.workers.Wait()
	return q.db.Close()
}

// Put records a wish, durably, and returns; another one for the same root and owner that did not go through is
// forgotten.
func (q *Queue) Put(ctx context.Context, e Entry) error {
	if err := e.check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Op == Unpin {
		e.Pin, e.Keep, e.Args = pinset.Pin{Root: e.Pin.Root, Owner: e.Pin.Owner}, false, nil
	}
	if e.Op == Pin {
		e.Keep = e.Keep || e.Group == ""
		if e.Pin.Created.IsZero() {
			e.Pin.Created = time.Now()
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if err := q.put(e); err != nil {
		return fmt.Errorf("queue to %s %s: %w", e.Op, e.Pin.Root, err)
	}
	q.wakeUp()
	return nil
}

func (e Entry) check() error {
	switch {
	case e.Op != Pin && e.Op != Unpin:
		return fmt.Errorf("%q is nothing to do with a root", e.Op)
	case !e.Pin.Root.Defined():
		return fmt.Errorf("%s without a root", e.Op)
	}
	return pinset.CheckOwner(e.Pin.Owner)
}

func (q *Queue) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *Queue) step(label string) error {
	if q.o.Step == nil {
		return nil
	}
	return q.o.Step(label)
}
