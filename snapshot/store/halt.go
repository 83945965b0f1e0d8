package store

import (
	"fmt"
	"log/slog"
	"sync"
)

// A halt is Pebble's logger, for the sake of Fatalf: Pebble calls it, from a committing goroutine or from one of
// its own, when its files can no longer be trusted to the state in memory, and goes on as if nothing had
// happened if it returns. So it never returns, and everybody who writes is told.
type halt struct {
	log     *slog.Logger
	stopped chan struct{}

	once sync.Once
	err  error // valid once stopped is closed
}

func newHalt(log *slog.Logger) *halt { return &halt{log: log, stopped: make(chan struct{})} }

// Infof leaves out what Pebble says about its daily work.
func (h *halt) Infof(string, ...any) {}

// Errorf passes errors on.
func (h *halt) Errorf(format string, args ...any) {
	h.log.Error("index", logError, fmt.Sprintf(format, args...))
}

// Fatalf stops the database where it is. Its goroutine keeps the locks it has: nothing that waits for them
// shall write any more.
func (h *halt) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err = cause
		}
	}
	h.stop(err)
	select {}
}

func (h *halt) stop(err error) {
	h.once.Do(func() {
		h.log.Error("index stopped", logError, err)
		h.err = fmt.Errorf("index stopped: %w", err)
		close(h.stopped)
	})
}

// failed returns why the database has stopped, nil if it has not.
func (h *halt) failed() error {
	select {
	case <-h.stopped:
		return h.err
	default:
		return nil
	}
}

// guard runs what may write, in a goroutine of its own that it gives up when the database stops.
func (h *halt) guard(fn func() error) error {
	if err := h.failed(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			// Pebble panics where it finds no file for its log.
			if r := recover(); r != nil {
				h.stop(fmt.Errorf("panic: %v", r))
			}
		}()
		done <- fn()
	}()
	select {
	case err := <-done:
		return err
	case <-h.stopped:
		return h.err
	}
}
