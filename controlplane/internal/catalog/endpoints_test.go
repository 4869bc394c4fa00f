package catalog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// TestDiscoveredEndpointsAreBounded: of too many the first by address are used, in whatever order they came, and the
// log says so.
func TestDiscoveredEndpointsAreBounded(t *testing.T) {
	var log bytes.Buffer
	c := New(nil, slog.New(slog.NewTextHandler(&log, nil)))
	var list []*configv1.Endpoint
	for i := range maxEndpoints + 5 {
		list = append(list, &configv1.Endpoint{Host: fmt.Sprintf("h%05d", maxEndpoints+4-i), Port: 80})
	}
	c.SetEndpoints("s", list[5:])
	if log.Len() > 0 {
		t.Errorf("%d endpoints: %s", maxEndpoints, log.String())
	}
	c.SetEndpoints("s", list)
	used := c.Endpoints().Services["s"].GetEndpoints()
	if len(used) != maxEndpoints || used[0].GetHost() != "h00000" || used[maxEndpoints-1].GetHost() != "h09999" {
		t.Errorf("%d endpoints are used, up to %v", len(used), used[len(used)-1])
	}
	if !strings.Contains(log.String(), "service_id=s endpoints=10005 used=10000") {
		t.Errorf("the log says %q", log.String())
	}
}
