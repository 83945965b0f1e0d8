package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/volary/volary/volume/api"
	"github.com/volary/volary/volume/docker"
)

// dockerSocket is where an engine looks for a volume driver called volary.
const dockerSocket = "/run/docker/plugins/volary.sock"

// startDocker offers volumes to a Docker engine, if the settings say at which socket, until the function it returns is
// called.
func (h *home) startDocker(host *api.Host, volumes docker.Volumes, log *slog.Logger) (stop func(), _ error) {
	socket := h.config.Docker
	if socket == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	l, err := api.Listen(socket, -1)
	if err != nil {
		return nil, err
	}
	known := newLately(host)
	o := docker.Options{
		Volumes: volumes, Global: h.config.networked() || len(h.config.Cluster) > 0, Logger: log,
		Resolve: func(ctx context.Context, ref string) (string, error) { return wholeRef(ctx, host, ref) },
	}
	if h.remote.cluster != nil {
		o.Replicas = known.replicas
	}
	driver := docker.New(o)
	server := &http.Server{
		Handler: driver, ConnContext: docker.WithEngine, ReadHeaderTimeout: headerTime, MaxHeaderBytes: headerBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("volume driver for Docker", "socket", socket)
	var work sync.WaitGroup
	work.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the volume driver for Docker ended", "error", err)
		}
	})
	return func() {
		if shutdown(server, api.DefaultGrace) != nil {
			driver.Close() // what is still being done ends now, and is answered
			if shutdown(server, answerTime) != nil {
				server.Close()
			}
		}
		driver.Close()
		known.close()
		work.Wait()
	}, nil
}

// answerTime is how long answers may take to be sent.
const answerTime = time.Second

func shutdown(server *http.Server, grace time.Duration) error {
	ctx, done := context.WithTimeout(context.Background(), grace)
	defer done()
	return server.Shutdown(ctx)
}
