package status_test

import (
	"encoding/json"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/status"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

type node struct{ snapshot *runtime.Snapshot }

func (n node) Snapshot() *runtime.Snapshot { return n.snapshot }
func (n node) Count(config.Kind) int       { return 0 }

// TestDegraded: a node that serves without a part of its configuration is ready, and says which part.
func TestDegraded(t *testing.T) {
	problems := []*streamv1.Problem{
		{Kind: "route", Name: "r", Field: "field 9", Reason: "has no effect"}, {Reason: "the disk is full"},
	}
	for name, c := range map[string]struct {
		problems []*streamv1.Problem
		want     any
	}{
		"all of it works": {},
		"some does not": {problems, []any{
			map[string]any{"kind": "route", "name": "r", "field": "field 9", "reason": "has no effect"},
			map[string]any{"reason": "the disk is full"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := status.Handler(status.Options{
				Registry: prometheus.NewRegistry(), Node: node{&runtime.Snapshot{}}, NotReady: func() string { return "" },
				Degraded: func() []*streamv1.Problem { return c.problems },
			})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
			var got map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || got["status"] != "ready" {
				t.Fatalf("%d %s; %v", w.Code, w.Body, err)
			}
			if d := cmp.Diff(c.want, got["degraded"]); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
