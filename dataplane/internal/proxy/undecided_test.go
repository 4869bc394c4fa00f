package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"gateway.internal/shared/waittest"
)

// TestDeadlinesOfRoutesThatConsumersDecide sends the time that clients have to routes whose backend is chosen after the
// global pipelines: services are told of it as they are where it is chosen before.
func TestDeadlinesOfRoutesThatConsumersDecide(t *testing.T) {
	seen := make(chan string, 1)
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("X-Timeout-Ms")
	}))
	t.Cleanup(service.Close)
	host, port, _ := net.SplitHostPort(service.Listener.Addr().String())
	g := start(t, fmt.Sprintf(`
services:
  - {name: v1, endpoints: [{host: %s, port: %s}], policy_id: told}
  - {name: v2, endpoints: [{host: %[1]s, port: %[2]s}], policy_id: told}
policies: [{name: told, timeout: 20s, deadline_header: X-Timeout-Ms, accept_deadline: true}]
routes:
  - {name: before, path: /before, backends: [{service_id: v1}, {service_id: v2}], sticky: {client_ip: true}}
  - {name: after, path: /after, policy_id: told, backends: [{service_id: v1}, {service_id: v2}], sticky: {consumer: true}}
  - {name: of-service, path: /of-service, backends: [{service_id: v1}, {service_id: v2}], sticky: {consumer: true}}
`, host, port))
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		client := clientOf(t, version)
		for _, path := range []string{"/before", "/after", "/of-service"} {
			res, _ := g.getAs(client, path, "X-Timeout-Ms", "9000")
			left, err := strconv.Atoi(waittest.Receive(t, "the request", seen))
			if res.StatusCode != 200 || err != nil || left > 9000 || left < 1000 {
				t.Errorf("%s: %s: %d, the service is told of %d ms of 9000", version, path, res.StatusCode, left)
			}
		}
	}
}
