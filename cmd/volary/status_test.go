package main

import (
	"strings"
	"testing"

	"github.com/volary/volary/volume/api"
)

func TestStatusHidesNeitherUntoldVolumesNorForgeries(t *testing.T) {
	text := func(o api.OutboxStatus, refused int) string {
		var out strings.Builder
		statusText(&out, api.Status{Outbox: &o, Cluster: &api.ClusterStatus{Refused: refused}})
		return out.String()
	}
	if s := text(api.OutboxStatus{}, 0); !strings.Contains(s, "nothing waits") || strings.Contains(s, "refused") || strings.Contains(s, "untold") {
		t.Error(s)
	}
	s := text(api.OutboxStatus{Untold: 2}, 1500)
	if strings.Contains(s, "nothing waits") || !strings.Contains(s, "2 volumes that are not in the outbox") || !strings.Contains(s, "1500 pins") {
		t.Error(s)
	}
}
