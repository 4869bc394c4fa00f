package chaos

import (
	"fmt"
	"path/filepath"
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
)

// gateway is a data plane that follows files.
type gateway struct{}

func (gateway) name() string { return "gateway" }

func (gateway) start(r *run) (string, string) {
	front, state := address(r.t), address(r.t)
	write(r.t, filepath.Join(r.dir, "config", "gateway.yaml"), gatewayConfig(r.scenario.balancing, r.endpoints))
	launch(r.t, nil, binary(r.t, "dataplane"), "--config", filepath.Join(r.dir, "config"), "--http-addr", front,
		"--https-addr", "", "--status-addr", state, "--data-dir", filepath.Join(r.dir, "data"))
	awaitStatus(r.t, "http://"+state+"/readyz", 200)
	return front, front
}

// gatewayConfig is the configuration of all scenarios.
func gatewayConfig(balancing string, endpoints []*endpoint) string {
	var list []string
	for _, e := range endpoints {
		list = append(list, fmt.Sprintf("{host: 127.0.0.1, port: %d}", e.port))
	}
	return fmt.Sprintf(`
services:
  - name: service
    endpoints: [%s]
    load_balancer_type: %s
    policy_id: policy
    health_check_config: {path: %s, interval: %s, timeout: %s, unhealthy_threshold: 2, healthy_threshold: 1}
    connection_pool: {connect_timeout: %s, response_timeout: 2s}
policies:
  - {name: policy, timeout: 10s}
routes:
  - {name: all, path: /*, service_id: service}
`, strings.Join(list, ", "), balancing, healthPath, checkEvery, checkEvery, connectTimeout)
}
