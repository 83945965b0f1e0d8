package view

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
)

// cache holds what was loaded last, bounded in bytes. What several ask for at the same time is loaded once.
type cache[K comparable, V any] struct {
	max int

	mu      sync.Mutex
	held    map[K]*list.Element // of *cached
	order   *list.List          // the latest used first
	size    int
	loading map[K]*load[V]
}

type cached[K comparable, V any] struct {
	key   K
	value V
	size  int
}

var errEnded = errors.New("loading ended early")

type load[V any] struct {
	done   chan struct{}
	value  V
	err    error
	gaveUp bool // whoever loaded had no time left
}

func newCache[K comparable, V any](max int) *cache[K, V] {
	return &cache[K, V]{max: max, held: map[K]*list.Element{}, order: list.New(), loading: map[K]*load[V]{}}
}

// peek returns what is held.
func (c *cache[K, V]) peek(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.use(k)
}

// use is called with the lock.
func (c *cache[K, V]) use(k K) (v V, ok bool) {
	e, ok := c.held[k]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached[K, V]).value, true
}

// get returns what is held, or what fetch returns: a value and its size, which is then held if keep is set. Who
// finds another loading it waits as long as its own context lasts, and loads itself if the other gave up earlier.
func (c *cache[K, V]) get(ctx context.Context, k K, keep bool, fetch func() (V, int, error)) (V, error) {
	for {
		c.mu.Lock()
		if v, ok := c.use(k); ok {
			c.mu.Unlock()
			return v, nil
		}
		l := c.loading[k]
		if l == nil {
			l = &load[V]{done: make(chan struct{}), err: errEnded}
			c.loading[k] = l
			c.mu.Unlock()
			return c.load(ctx, l, k, keep, fetch)
		}
		c.mu.Unlock()
		select {
		case <-l.done:
			if l.err == nil || !l.gaveUp || ctx.Err() != nil {
				return l.value, l.err
			}
		case <-ctx.Done():
			var none V
			return none, fmt.Errorf("wait for who reads the same: %w", ctx.Err())
		}
	}
}

// load fetches what others may wait for.
func (c *cache[K, V]) load(ctx context.Context, l *load[V], k K, keep bool, fetch func() (V, int, error)) (V, error) {
	var size int
	defer func() {
		c.mu.Lock()
		delete(c.loading, k)
		if l.err == nil && keep {
			c.hold(k, l.value, size)
		}
		c.mu.Unlock()
		close(l.done)
	}()
	l.value, size, l.err = fetch()
	l.gaveUp = ctx.Err() != nil
	return l.value, l.err
}

// busy reports whether a key is held or being loaded.
func (c *cache[K, V]) busy(k K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, held := c.held[k]
	return held || c.loading[k] != nil
}

// hold is called with the lock.
func (c *cache[K, V]) hold(k K, v V, size int) {
	if _, again := c.held[k]; again {
		return
	}
	c.held[k] = c.order.PushFront(&cached[K, V]{k, v, size})
	c.size += size
	for c.size > c.max && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(*cached[K, V])
		delete(c.held, old.key)
		c.size -= old.size
	}
}

// drop lets go of the values whose key fits.
func (c *cache[K, V]) drop(fits func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.held {
		if fits(k) {
			c.size -= e.Value.(*cached[K, V]).size
			c.order.Remove(e)
			delete(c.held, k)
		}
	}
}
