package api

import (
	"context"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type fixedStatus struct {
	Upkeep
	status Status
}

func (f fixedStatus) Status(context.Context) (Status, error) { return f.status, nil }

func TestMetricsTellTheOutbox(t *testing.T) {
	hourAgo := time.Now().Add(-time.Hour)
	for _, c := range []struct {
		outbox              *OutboxStatus
		waiting, age, fails float64
	}{
		{nil, 0, 0, 0},
		{&OutboxStatus{}, 0, 0, 0},
		{&OutboxStatus{Waiting: 2, Oldest: &hourAgo, Failed: 7}, 2, 3600, 7},
	} {
		r := prometheus.NewRegistry()
		r.MustRegister(newStatusCollector(fixedStatus{status: Status{Outbox: c.outbox}}, slog.New(slog.DiscardHandler)))
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		age := got["volary_outbox_oldest_seconds"]
		if got["volary_outbox_waiting"] != c.waiting || got["volary_outbox_failed_total"] != c.fails || age < c.age || age > c.age+60 {
			t.Errorf("outbox %+v: %v", c.outbox, got)
		}
	}
}

func TestMetricsTellWhatIsReplicated(t *testing.T) {
	for _, c := range []struct {
		status Status
		want   map[string]float64
	}{
		{Status{}, map[string]float64{"volary_outbox_pinned_total": 0, "volary_outbox_unpinned_total": 0, "volary_volumes_under_replicated": 0}},
		{
			Status{Outbox: &OutboxStatus{Pinned: 3, Unpinned: 2}, Cluster: &ClusterStatus{Behind: make([]Behind, 4)}},
			map[string]float64{"volary_outbox_pinned_total": 3, "volary_outbox_unpinned_total": 2, "volary_volumes_under_replicated": 4},
		},
	} {
		wantMetrics(t, c.status, c.want)
	}
}

// wantMetrics gathers what a status gives, of which only what is wanted is looked at.
func wantMetrics(t *testing.T, status Status, want map[string]float64) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(newStatusCollector(fixedStatus{status: status}, slog.New(slog.DiscardHandler)))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if _, asked := want[f.GetName()]; asked {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%+v: %v, want %v", status, got, want)
	}
}

func TestMetricsTellWhatOtherHostsBrought(t *testing.T) {
	for _, c := range []struct {
		network *NetworkState
		want    map[string]float64
	}{
		{nil, map[string]float64{"volary_exchange_peers": 0, "volary_exchange_blocks_total": 0, "volary_exchange_bytes_total": 0}},
		{&NetworkState{}, map[string]float64{"volary_exchange_wrong_total": 0, "volary_exchange_failed_total": 0}},
		{
			&NetworkState{Exchange: &ExchangeState{Peers: 2, Blocks: 3, Bytes: 4, Wrong: 5, Failures: 6}},
			map[string]float64{"volary_exchange_peers": 2, "volary_exchange_blocks_total": 3, "volary_exchange_bytes_total": 4, "volary_exchange_wrong_total": 5, "volary_exchange_failed_total": 6},
		},
	} {
		wantMetrics(t, Status{Network: c.network}, c.want)
	}
}
