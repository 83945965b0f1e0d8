package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// statusAge is for how long a status serves scrapes: making one may read the store's whole index.
	statusAge = time.Minute
	// statusTimeout bounds what a scrape waits for one.
	statusTimeout = 20 * time.Second
)

type metrics struct {
	registry                  *prometheus.Registry
	requests                  *prometheus.HistogramVec
	putBlocks, putBytes       prometheus.Counter
	gotBlocks, gotBytes       prometheus.Counter
	pinned, unpinned          prometheus.Counter
	collections               prometheus.Counter
	removedBlocks, freedBytes prometheus.Counter
	sessions                  prometheus.Gauge
}

func newMetrics(s *Server, o ServerOptions) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		registry: o.Registry,
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "volary_api_request_duration_seconds", Help: "Time to answer a request of the API, by route and status.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 30, 120},
		}, []string{"route", "code"}),
		putBlocks:     counter("volary_api_put_blocks_total", "Blocks that callers put, those that were there included."),
		putBytes:      counter("volary_api_put_bytes_total", "Bytes of the blocks that callers put."),
		gotBlocks:     counter("volary_api_got_blocks_total", "Blocks that callers got."),
		gotBytes:      counter("volary_api_got_bytes_total", "Bytes of the blocks that callers got."),
		pinned:        counter("volary_api_pins_added_total", "Pins that callers added or changed."),
		unpinned:      counter("volary_api_pins_removed_total", "Pins that callers removed."),
		collections:   counter("volary_collections_total", "Collections that callers ran to the end."),
		removedBlocks: counter("volary_collected_blocks_total", "Blocks that collections removed."),
		freedBytes:    counter("volary_collected_bytes_total", "Bytes of disk space that collections gave back."),
		sessions:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "volary_api_sessions_open", Help: "Sessions that callers hold open."}),
	}
	if m.registry == nil {
		m.registry = prometheus.NewRegistry()
		m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "volary_build_info", Help: "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": o.Version, "go": runtime.Version(), "api": strconv.Itoa(Version)},
	})
	build.Set(1)
	for _, c := range []prometheus.Collector{
		m.requests, m.putBlocks, m.putBytes, m.gotBlocks, m.gotBytes, m.pinned, m.unpinned, m.collections,
		m.removedBlocks, m.freedBytes, m.sessions, build, newStatusCollector(s.host.Upkeep, s.log),
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
	})
}

func (m *metrics) request(route string, code int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(code)).Observe(took.Seconds())
}

func (m *metrics) put(blocks, bytes int) {
	m.putBlocks.Add(float64(blocks))
	m.putBytes.Add(float64(bytes))
}

func (m *metrics) got(bytes int) {
	m.gotBlocks.Inc()
	m.gotBytes.Add(float64(bytes))
}

func (m *metrics) collected(c Collected) {
	m.collections.Inc()
	m.removedBlocks.Add(float64(c.RemovedBlocks))
	m.freedBytes.Add(float64(c.FreedBytes))
}

// statusCollector shows the host's status as gauges.
type statusCollector struct {
	upkeep Upkeep
	log    *slog.Logger
	gauges []statusGauge

	mu   sync.Mutex
	last Status
	at   time.Time
}

type statusGauge struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Status) uint64
}

func newStatusCollector(u Upkeep, log *slog.Logger) *statusCollector {
	gauge := func(name, help string, value func(*Status) uint64) statusGauge {
		return statusGauge{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, value}
	}
	counted := func(name, help string, value func(*Status) uint64) statusGauge {
		return statusGauge{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, value}
	}
	return &statusCollector{upkeep: u, log: log, gauges: []statusGauge{
		gauge("volary_pins", "Roots that are pinned.", func(s *Status) uint64 { return s.Pins }),
		gauge("volary_tags", "Tags.", func(s *Status) uint64 { return s.Tags }),
		gauge("volary_volumes", "Volumes.", func(s *Status) uint64 { return s.Volumes.Volumes }),
		gauge("volary_volumes_mounted", "Volumes that somebody has mounted.", func(s *Status) uint64 { return s.Volumes.Mounted }),
		gauge("volary_volumes_failing", "Volumes whose last automatic commit, unmount for a container or mount at the start failed.", func(s *Status) uint64 { return s.Volumes.Failing }),
		counted("volary_volume_commits_failed_total", "Automatic commits that failed.", func(s *Status) uint64 { return s.Volumes.FailedCommits }),
		gauge("volary_store_blocks", "Blocks in the store.", func(s *Status) uint64 { return s.Blocks }),
		gauge("volary_store_bytes", "Bytes of the blocks in the store.", func(s *Status) uint64 { return s.Bytes }),
		gauge("volary_store_disk_bytes", "Disk space the store uses.", func(s *Status) uint64 { return s.Disk }),
		gauge("volary_store_free_bytes", "Disk space free on the store's file system.", func(s *Status) uint64 { return s.Free }),
		gauge("volary_network_peers", "Hosts of the namespace that are connected.", func(s *Status) uint64 { return uint64(s.network().Connected) }),
		gauge("volary_network_peers_missing", "Configured peers that are not connected.", func(s *Status) uint64 { return uint64(s.network().Missing) }),
		counted("volary_network_received_bytes_total", "Bytes that came from peers, since the start.", func(s *Status) uint64 { return uint64(s.network().InBytes) }),
		counted("volary_network_sent_bytes_total", "Bytes that went to peers, since the start.", func(s *Status) uint64 { return uint64(s.network().OutBytes) }),
		gauge("volary_exchange_peers", "Peers that can be asked for blocks.", func(s *Status) uint64 { return uint64(s.exchange().Peers) }),
		counted("volary_exchange_blocks_total", "Blocks that were got from other hosts and gateways, since the start.", func(s *Status) uint64 { return s.exchange().Blocks }),
		counted("volary_exchange_bytes_total", "Bytes of the blocks that were got from other hosts and gateways, since the start.", func(s *Status) uint64 { return s.exchange().Bytes }),
		counted("volary_exchange_wrong_total", "Answers of peers that were not what was asked for, since the start.", func(s *Status) uint64 { return s.exchange().Wrong }),
		counted("volary_exchange_failed_total", "Answers of peers that did not come, since the start.", func(s *Status) uint64 { return s.exchange().Failures }),
		gauge("volary_outbox_waiting", "Pins and unpins that the cluster was not told yet.", func(s *Status) uint64 { return s.outbox().waiting() }),
		gauge("volary_outbox_oldest_seconds", "Age of the oldest pin or unpin that the cluster was not told yet.", func(s *Status) uint64 { return s.outbox().age() }),
		gauge("volary_outbox_untold_volumes", "Volumes of which not everything is in the outbox yet.", func(s *Status) uint64 { return uint64(s.outbox().Untold) }),
		gauge("volary_cluster_refused_pins", "Pins in the cluster that claim to be a volume's and were not believed.", func(s *Status) uint64 { return s.refused() }),
		counted("volary_outbox_pinned_total", "Pins that the cluster took, since the start.", func(s *Status) uint64 { return s.outbox().Pinned }),
		counted("volary_outbox_unpinned_total", "Unpins that the cluster took, since the start.", func(s *Status) uint64 { return s.outbox().Unpinned }),
		gauge("volary_volumes_under_replicated", "Volumes whose head fewer peers of the cluster hold than are to, as far as is known.", func(s *Status) uint64 { return s.behind() }),
		counted("volary_outbox_failed_total", "Attempts to tell the cluster that failed, since the start.", func(s *Status) uint64 { return s.outbox().Failed }),
	}}
}

// network is that of a host that is in none as well.
func (s *Status) network() *NetworkState {
	if s.Network == nil {
		return &NetworkState{}
	}
	return s.Network
}

// exchange is that of a host that has none as well.
func (s *Status) exchange() *ExchangeState {
	if x := s.network().Exchange; x != nil {
		return x
	}
	return &ExchangeState{}
}

// outbox is that of a host that has none as well.
func (s *Status) outbox() *OutboxStatus {
	if s.Outbox == nil {
		return &OutboxStatus{}
	}
	return s.Outbox
}

func (s *Status) behind() uint64 {
	if s.Cluster == nil {
		return 0
	}
	return uint64(len(s.Cluster.Behind))
}

func (s *Status) refused() uint64 {
	if s.Cluster == nil {
		return 0
	}
	return uint64(s.Cluster.Refused)
}

func (o *OutboxStatus) waiting() uint64 { return uint64(o.Waiting) }

func (o *OutboxStatus) age() uint64 {
	if o.Oldest == nil {
		return 0
	}
	return uint64(max(0, time.Since(*o.Oldest).Seconds()))
}

func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range c.gauges {
		ch <- g.desc
	}
}

func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	st, err := c.status()
	if err != nil {
		c.log.Warn("no status for metrics", logError, err)
		return
	}
	for _, g := range c.gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, g.kind, float64(g.value(&st)))
	}
}

// status makes at most one status at a time, and none while there is a recent one.
func (c *statusCollector) status() (Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && time.Since(c.at) < statusAge {
		return c.last, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	st, err := c.upkeep.Status(ctx)
	if err == nil {
		c.last, c.at = st, time.Now()
	}
	return st, err
}
