package chaos

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// proxy is what stands before the endpoints.
type proxy interface {
	name() string
	// start starts it before the endpoints of a run, and returns where it serves HTTP/1.1 and HTTP/2 without TLS.
	start(r *run) (http1, http2 string)
}

// What the proxies are told alike, as far as each has it.
const (
	checkEvery     = "200ms"
	connectTimeout = "250ms"
	tryTimeout     = "500ms"
	tries          = 3
	// failuresToEject is how many requests an endpoint may fail until it gets none for a time.
	failuresToEject = 5
)

// ejection is how long an endpoint gets no requests after failuresToEject. The short form waits for that only where
// checks keep the endpoint out meanwhile.
func (r *run) ejection() string {
	switch {
	case !r.size.short:
		return "5s"
	case r.scenario.ejected:
		return "1h"
	}
	return "1s"
}

// changer is a proxy whose endpoints can be replaced while it serves.
type changer interface {
	proxy
	// use has it use some of the run's endpoints. The others finish what they carry.
	use(r *run, in []*endpoint)
}

// gateway is a data plane that follows files.
type gateway struct{}

func (gateway) name() string { return "gateway" }

func (gateway) start(r *run) (string, string) {
	front, state := address(r.t), address(r.t)
	write(r.t, filepath.Join(r.dir, "config", "gateway.yaml"), r.gatewayConfig(fixed(r.endpoints)))
	launch(r.t, nil, binary(r.t, "dataplane"), "--config", filepath.Join(r.dir, "config"), "--http-addr", front,
		"--https-addr", "", "--status-addr", state, "--data-dir", filepath.Join(r.dir, "data"))
	awaitStatus(r.t, "http://"+state+"/readyz", 200)
	return front, front
}

// configured is what gatewayConfig has besides health checks.
var configured = map[string]bool{"": true, "retry": true, "outlier_detection": true}

// fixed says which endpoints a service has.
func fixed(endpoints []*endpoint) string {
	var list []string
	for _, e := range endpoints {
		list = append(list, fmt.Sprintf("{host: %s, port: %d}", e.host, e.port))
	}
	return "endpoints: [" + strings.Join(list, ", ") + "]"
}

// gatewayConfig is the configuration of all scenarios.
func (r *run) gatewayConfig(endpoints string) string {
	protocol, balancing := "http", "round_robin"
	if r.scenario.http2 {
		protocol = "h2c"
	}
	if r.scenario.unequal {
		balancing = "peak_ewma"
	}
	return strings.NewReplacer(
		"ENDPOINTS", endpoints, "PROTOCOL", protocol, "BALANCING", balancing, "HEALTH", healthPath, "EVERY", checkEvery,
		"CONNECT", connectTimeout, "TRIES", strconv.Itoa(tries), "TRY", tryTimeout,
		"FAILURES", strconv.Itoa(failuresToEject), "EJECTION", r.ejection(),
	).Replace(`
services:
  - name: service
    ENDPOINTS
    protocol: PROTOCOL
    load_balancer_type: BALANCING
    policy_id: policy
    health_check_config: {path: HEALTH, interval: EVERY, timeout: EVERY, unhealthy_threshold: 2, healthy_threshold: 1}
    outlier_detection:
      consecutive_5xx: FAILURES
      consecutive_gateway_failures: FAILURES
      base_ejection_time: EJECTION
      max_ejection_percent: 50
    circuit_breaker_config: {error_threshold: 0.9, interval: 2s, timeout: 1s}
    connection_pool: {connect_timeout: CONNECT, response_timeout: 2s}
policies:
  - name: policy
    timeout: 10s
    retry: {attempts: TRIES, on: [5xx], per_try_timeout: TRY}
  - {name: changing, timeout: 10s}
routes:
  - {name: all, path: /*, service_id: service}
  - {name: changing, path: /changing/*, service_id: service, policy_id: changing}
`)
}
