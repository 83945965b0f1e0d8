package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/volary/volary/p2p/trustless"
)

const (
	headerTime  = 10 * time.Second // that a request's header may take
	idleTime    = 2 * time.Minute
	headerBytes = 16 << 10
	gatewayEnd  = 2 * time.Second // that requests have to end by themselves
)

// startGateway serves what is on this host over HTTP, if its settings ask for that, until the function it returns is
// called. That it cannot is told in the log: nothing else needs it.
func (h *home) startGateway(ctx context.Context, records trustless.Records, log *slog.Logger) (stop func()) {
	if h.config.Gateway == "" {
		return func() {}
	}
	handler, err := trustless.Handler(h.served(), records)
	if err != nil {
		log.Error("no gateway", "error", err)
		return func() {}
	}
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", h.config.Gateway)
	if err != nil {
		log.Error("no gateway", "error", err)
		return func() {}
	}
	log.Info("gateway", "address", l.Addr().String())
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: headerBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var work sync.WaitGroup
	work.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("gateway ended", "error", err)
		}
	})
	return func() {
		ctx, done := context.WithTimeout(context.Background(), gatewayEnd)
		defer done()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		work.Wait()
	}
}
