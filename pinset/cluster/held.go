package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"

	"github.com/volary/volary/pinset"
)

// Held tells of all pins of the namespace how often they are held, in no order. However many there are, that is two
// requests: one for what is to be, and one for what all peers say.
func (s *Set) Held(ctx context.Context) ([]pinset.Held, error) {
	const op = "ask for all replicas"
	var all []pinset.Held
	err := s.try(ctx, op, func(e endpoint) error {
		all = nil
		at := map[cid.Cid]int{}
		err := s.listed(ctx, e, op, func(pin api.Pin) error {
			at[pin.Cid.Cid] = len(all)
			all = append(all, pinset.Held{
				Root: pin.Cid.Cid, State: pinset.Pinning, Min: pin.ReplicationFactorMin, Max: pin.ReplicationFactorMax,
			})
			return nil
		})
		if err != nil || len(all) == 0 {
			return err
		}
		return stream(ctx, s, e, op, func(ctx context.Context, out chan<- api.GlobalPinInfo) error {
			return e.client.StatusAll(ctx, api.TrackerStatusUndefined, false, out)
		}, func(info api.GlobalPinInfo) error {
			if i, is := at[info.Cid.Cid]; is {
				st := counted(pinset.Status{Min: all[i].Min}, info)
				all[i].State = st.State
				for _, r := range st.Replicas {
					if r.Pinned {
						all[i].Have++
					}
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

const (
	// maxPins bounds the pins of a namespace, and maxListed what an endpoint may list with those of others.
	maxPins   = 1 << 20
	maxListed = 16 << 20
	// listTimeouts is how many times the time of a request a list may take, and perListed how much longer for each of
	// its values.
	listTimeouts = 10
	perListed    = 10 * time.Millisecond
)

var errNoEnd = errors.New("the list has no end")

// listed lists the pins of the namespace that an endpoint knows.
func (s *Set) listed(ctx context.Context, e endpoint, op string, take func(api.Pin) error) error {
	ours := 0
	return stream(ctx, s, e, op, func(ctx context.Context, out chan<- api.Pin) error {
		return e.client.Allocations(ctx, api.DataType, out)
	}, func(pin api.Pin) error {
		if !s.ours(pin) {
			return nil
		}
		if ours++; ours > s.maxPins {
			return errNoEnd
		}
		return take(pin)
	})
}

// stream takes what an endpoint sends one by one: from puts it into the channel, and closes that. It ends when nothing
// comes for longer than a request may take, or too little, or too much. What take returns ends it as well.
func stream[T any](ctx context.Context, s *Set, e endpoint, op string, from func(context.Context, chan<- T) error, take func(T) error) error {
	limited, cancel := context.WithCancelCause(ctx)
	stalled := time.AfterFunc(s.o.Timeout, func() { cancel(fmt.Errorf("nothing came for %s", s.o.Timeout)) })
	defer stalled.Stop()
	defer cancel(nil)
	things, done := make(chan T, 64), make(chan error, 1)
	go func() { done <- from(limited, things) }()
	var full error
	until := time.Now().Add(listTimeouts * s.o.Timeout)
	n := 0
	for thing := range things {
		stalled.Reset(s.o.Timeout)
		n, until = n+1, until.Add(perListed)
		switch {
		case full != nil:
		case n > s.maxListed:
			cancel(errNoEnd)
		case time.Now().After(until):
			cancel(errors.New("the list comes too slowly"))
		default:
			if full = take(thing); full != nil {
				cancel(full)
			}
		}
	}
	err := <-done
	if full != nil && !errors.Is(full, errNoEnd) {
		return fmt.Errorf("%s: %w", op, full)
	}
	return explain(limited, ctx, e, op, err)
}
