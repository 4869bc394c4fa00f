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
	tryTimeout     = "500ms"
	tries          = 3
	// failuresToEject is how many requests an endpoint may fail, and ejectionTime how long it is left out then.
	failuresToEject = 5
	ejectionTime    = "5s"
)

// leastConnections is a service's load_balancer_type that all proxies have.
const leastConnections = "least_connections"

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
	write(r.t, filepath.Join(r.dir, "config", "gateway.yaml"), gatewayConfig(r.scenario.balancing, fixed(r.endpoints)))
	launch(r.t, nil, binary(r.t, "dataplane"), "--config", filepath.Join(r.dir, "config"), "--http-addr", front,
		"--https-addr", "", "--status-addr", state, "--data-dir", filepath.Join(r.dir, "data"))
	awaitStatus(r.t, "http://"+state+"/readyz", 200)
	return front, front
}

// configured is what gatewayConfig has besides health checks.
var configured = map[string]bool{"": true, "retry": false, "outlier_detection": false}

// fixed says which endpoints a service has.
func fixed(endpoints []*endpoint) string {
	var list []string
	for _, e := range endpoints {
		list = append(list, fmt.Sprintf("{host: %s, port: %d}", e.host, e.port))
	}
	return "endpoints: [" + strings.Join(list, ", ") + "]"
}

// gatewayConfig is the configuration of all scenarios.
func gatewayConfig(balancing, endpoints string) string {
	return fmt.Sprintf(`
services:
  - name: service
    %s
    load_balancer_type: %s
    policy_id: policy
    health_check_config: {path: %s, interval: %s, timeout: %s, unhealthy_threshold: 2, healthy_threshold: 1}
    connection_pool: {connect_timeout: %s, response_timeout: 2s}
policies:
  - {name: policy, timeout: 10s}
  - {name: changing, timeout: 10s}
routes:
  - {name: all, path: /*, service_id: service}
  - {name: changing, path: /changing/*, service_id: service, policy_id: changing}
`, endpoints, balancing, healthPath, checkEvery, checkEvery, connectTimeout)
}
