package api

import (
	"context"
	"log/slog"
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
