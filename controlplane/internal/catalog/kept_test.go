package catalog

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// TestKeptVersionsAreBounded counts how many versions are kept after some, each of which changes routes of a size.
func TestKeptVersionsAreBounded(t *testing.T) {
	for _, c := range []struct {
		name                   string
		versions, routes, size int
		atLeast, atMost        int
	}{
		{"small ones by their number", 70, 1, 10, keptVersions, keptVersions},
		{"large ones by their bytes", 20, 40, 60 << 10, 10, 14},
		{"very large ones, of which the newest is always there", 2, 600, 60 << 10, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			catalog := New(nil, slog.New(slog.DiscardHandler))
			conf, ids := config.Empty(), 0
			for i := range c.versions {
				var edits []config.Edit
				for j := range c.routes {
					body := strings.Repeat("x", c.size) + fmt.Sprint(i)
					edits = append(edits, config.Edit{Kind: config.Route, Put: &configv1.Route{Name: fmt.Sprint("r", j),
						Path: fmt.Sprint("/", j), DirectResponse: &configv1.DirectResponse{Body: body}}})
				}
				plan, err := conf.Plan(edits, config.PlanOptions{Now: time.Unix(int64(i), 0),
					NewID: func() string { ids++; return fmt.Sprint("id", ids) }})
				if err != nil {
					t.Fatal(err)
				}
				conf = plan.Config
				catalog.publish(&Version{Epoch: "e", Revision: uint32(i + 1), Config: conf})
			}
			kept := 0
			for i := range c.versions {
				if v := catalog.At("e", uint32(i+1)); v != nil {
					kept++
				}
			}
			if kept < c.atLeast || kept > c.atMost || catalog.At("e", uint32(c.versions)) != catalog.Current() {
				t.Errorf("%d versions are kept, instead of %d to %d with the newest", kept, c.atLeast, c.atMost)
			}
		})
	}
}
