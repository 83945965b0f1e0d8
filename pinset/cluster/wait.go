package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

// Goal says what is waited for.
type Goal string

const (
	Local Goal = "local" // WaitOptions.Local holds the root
	One   Goal = "one"   // somebody does
	Min   Goal = "min"   // as many do as are needed
	Max   Goal = "max"   // as many do as are wanted
)

// WaitOptions say what to wait for.
type WaitOptions struct {
	Goal     Goal                // Min if empty
	Replicas int                 // if not zero this many, whatever Goal says
	Local    string              // the peer ID of the local cluster peer
	Progress func(pinset.Status) // called from the waiting goroutine, first at once, then when something has changed
}

// ErrTooMany says that more replicas were waited for than there can be.
var ErrTooMany = errors.New("so many replicas cannot be waited for")

// absentTime is how long an endpoint may not know of a pin that another one was told.
const absentTime = 2 * time.Second

// LagError says how far a root had got when the waiting ended.
type LagError struct {
	Root   cid.Cid
	Have   int // replicas
	Want   int // zero if nobody could be asked
	Status pinset.Status
	Last   error // why the cluster could not be asked in the end, if so
	Err    error // what ended the waiting
}

func (e *LagError) Error() string {
	var b strings.Builder
	why := e.Err.Error()
	if errors.Is(e.Err, context.DeadlineExceeded) {
		why = "not in time"
	}
	fmt.Fprintf(&b, "wait for %s: %s: ", e.Root, why)
	if e.Want == 0 {
		fmt.Fprintf(&b, "nothing is known of its replicas")
	} else {
		fmt.Fprintf(&b, "%d of %d replicas", e.Have, e.Want)
	}
	for _, r := range e.Status.Replicas {
		if r.Pinned || r.State == api.TrackerStatusRemote.String() {
			continue
		}
		name := r.Name
		if name == "" {
			name = r.Peer
		}
		fmt.Fprintf(&b, "; %s: %s", name, r.State)
		if !r.Since.IsZero() {
			fmt.Fprintf(&b, " since %s", r.Since.Format(time.TimeOnly))
		}
		if r.Error != "" {
			fmt.Fprintf(&b, " (%s)", r.Error)
		}
	}
	if e.Last != nil {
		fmt.Fprintf(&b, "; %v", e.Last)
	}
	return b.String()
}

func (e *LagError) Unwrap() []error { return []error{e.Err, e.Last} }

// Wait returns once the goal is reached. Until then it goes on, whatever a peer says and whether or not the cluster
// can be reached, to the end of ctx, which makes a *LagError; it ends early if the root is not pinned
// (pinset.ErrNotPinned), if there cannot be so many replicas (ErrTooMany), or the endpoint refuses to say.
func (s *Set) Wait(ctx context.Context, root cid.Cid, o WaitOptions) (pinset.Status, error) {
	op := "wait for " + root.String()
	w := waiting{o: o}
	from := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(pause*3/2, 500*time.Millisecond) {
		st, err := s.status(ctx, op, root, func(st *pinset.Status) bool { return w.heardFew(ctx, s, root, st) },
			func(ctx context.Context, e endpoint) (api.GlobalPinInfo, error) {
				return e.client.Status(ctx, api.NewCid(root), false)
			})
		switch {
		case ctx.Err() != nil:
		case err == nil && st.State == pinset.Unpinned:
			if time.Since(from) > absentTime {
				return st, &Error{Op: op, Endpoint: s.endpoints[s.current.Load()].name, Err: pinset.ErrNotPinned}
			}
		case err == nil:
			if most := w.most(st); o.Replicas > most {
				return st, &Error{Op: op, Endpoint: s.endpoints[s.current.Load()].name, Err: fmt.Errorf("%w: %d of at most %d", ErrTooMany, o.Replicas, most)}
			}
			w.last, w.heardAll = nil, true
			if w.seen(st) {
				return st, nil
			}
		case errors.Is(err, pinset.ErrUnavailable):
			w.last = err
		default:
			return st, err
		}
		if err := sleep(ctx, pause); err != nil {
			have, want := w.count(w.known)
			return w.known, &LagError{Root: root, Have: have, Want: want, Status: w.known, Last: w.last, Err: err}
		}
	}
}

// waiting is what a Wait knows.
type waiting struct {
	o        WaitOptions
	known    pinset.Status
	heardAll bool // known is what all peers said, or could not say
	last     error
}

// heardFew takes in what the endpoints say of themselves, until all peers are heard: one that hangs keeps the answer
// of all others back for longer than the waiting may last. It tells whether what is waited for is there already.
func (w *waiting) heardFew(ctx context.Context, s *Set, root cid.Cid, st *pinset.Status) bool {
	if w.heardAll {
		return false
	}
	// Without names IDs have to do.
	peers, _ := s.Peers(ctx)
	if len(st.Replicas) == 0 { // to be held everywhere
		for _, p := range peers {
			st.Replicas = append(st.Replicas, pinset.Replica{Peer: p.ID, State: noAnswer})
		}
	}
	said := s.selves(ctx, root)
	for i, r := range st.Replicas {
		if self, ok := said[r.Peer]; ok {
			st.Replicas[i] = self
		} else if at := slices.IndexFunc(peers, func(p Peer) bool { return p.ID == r.Peer }); at >= 0 {
			st.Replicas[i].Name = peers[at].Name
		}
	}
	tally(st)
	return w.seen(*st) || w.o.Replicas > w.most(*st)
}

// most is how many replicas there can be: as many as the pin asks for at most, or as there are peers, once they are
// known.
func (w *waiting) most(st pinset.Status) int {
	most := math.MaxInt
	if st.Max > 0 {
		most = st.Max
	}
	if w.heardAll {
		most = min(most, len(st.Replicas))
	}
	return most
}

// seen takes in what the peers say, and tells whether it is what is waited for.
func (w *waiting) seen(st pinset.Status) bool {
	w.tell(st)
	have, want := w.count(st)
	return have >= want
}

func (w *waiting) tell(st pinset.Status) {
	changed := !slices.EqualFunc(w.known.Replicas, st.Replicas, func(a, b pinset.Replica) bool {
		return a.Peer == b.Peer && a.State == b.State && a.Error == b.Error && a.Attempts == b.Attempts
	})
	w.known = st
	if changed && w.o.Progress != nil {
		w.o.Progress(st)
	}
}

// count tells how many replicas there are of those that are waited for.
func (w *waiting) count(st pinset.Status) (have, want int) {
	if st.State == "" {
		return 0, 0
	}
	local := w.o.Goal == Local && w.o.Replicas == 0
	for _, r := range st.Replicas {
		if r.Pinned && (!local || r.Peer == w.o.Local) {
			have++
		}
	}
	switch {
	case w.o.Replicas != 0:
		want = w.o.Replicas
	case local || w.o.Goal == One:
		want = 1
	case w.o.Goal == Max:
		want = replicas(st, st.Max)
	default:
		want = replicas(st, st.Min)
	}
	return have, max(want, 1)
}
