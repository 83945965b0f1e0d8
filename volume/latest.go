package volume

import "sync"

// latest does work for each of some keys, for each one at a time. What is asked for while it is done is done once more
// after it.
type latest struct {
	free chan struct{} // has an element for each that is done now

	mu    sync.Mutex
	again map[string]func() // of what is being done; nil if it is not asked for again
	work  sync.WaitGroup
}

// newLatest returns one that does a few at a time.
func newLatest(few int) *latest {
	return &latest{free: make(chan struct{}, few), again: map[string]func(){}}
}

// do has something done for a key.
func (l *latest) do(key string, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, busy := l.again[key]; busy {
		l.again[key] = f
		return
	}
	l.again[key] = nil
	l.work.Go(func() {
		l.free <- struct{}{}
		defer func() { <-l.free }()
		for f != nil {
			f()
			f = l.next(key)
		}
	})
}

func (l *latest) next(key string) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.again[key]
	if l.again[key] = nil; f == nil {
		delete(l.again, key)
	}
	return f
}
