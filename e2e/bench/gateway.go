package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// gateway is a data plane with a configuration in a file.
type gateway struct {
	called, bin string
	args        []string // further ones
	plainOnly   bool     // it is only of interest over HTTP/1.1 without TLS
	base        bool     // it may not know all that there is
	// resilienceOff leaves out what the setup asks for, to be compared with.
	resilienceOff bool
	// rateLimitOff leaves out the limit that the setup asks for.
	rateLimitOff bool
}

func (g gateway) name() string { return g.called }

// resilienceOff is the name of the gateway without what setup.resilient asks for.
const resilienceOff = "gateway, resilience off"

// rateLimitOff is the name of the gateway without what setup.limited asks for.
const rateLimitOff = "gateway, rate limit off"

func (g gateway) can(s setup) bool {
	switch {
	case s.resilient && (g.base || g.plainOnly), g.resilienceOff && !s.resilient:
		return false
	case s.limited && (g.base || g.plainOnly), g.rateLimitOff && !s.limited:
		return false
	}
	return !g.plainOnly || !s.tls && !s.http2
}

// resilience is of a service, and resiliencePolicy the policy that it names.
const (
	resilience = `, policy_id: saved, circuit_breaker_config: {error_threshold: 0.5, interval: 10s, timeout: 30s,
    consecutive_failures: 50},
    outlier_detection: {consecutive_5xx: 5, consecutive_gateway_failures: 5, success_rate: {}}`
	resiliencePolicy = `policies:
  - {name: saved, retry: {attempts: 3, on: [connect_failure, reset, refused_stream, gateway_error], budget_percent: 20}}
`
)

func (g gateway) launch(b *bench, s setup, address, dir string) (*process, error) {
	path := filepath.Join(g.bin, "dataplane")
	if !executable(path) {
		return nil, &missingError{path + " (make build)"}
	}
	var c strings.Builder
	host, port, _ := strings.Cut(b.backend, ":")
	extra := ""
	if s.resilient && !g.resilienceOff {
		c.WriteString(resiliencePolicy)
		extra = resilience
	}
	if s.limited && !g.rateLimitOff {
		c.WriteString("policies:\n  - {name: limited, rate_limits: [{name: client, limit: 1000000, key: [client_ip]}]}\n")
		extra = ", policy_id: limited"
	}
	fmt.Fprintf(&c, "services:\n  - {name: files, endpoints: [{host: %s, port: %s}], ", host, port)
	fmt.Fprintf(&c, "connection_pool: {max_idle_connections: 1000}%s}\n", extra)
	c.WriteString("middleware:\n  - {name: stamp, type: headers, order: 1, config: {response: {set: {X-Gateway: \"yes\"}}}}\npipelines:\n  - {name: front, middleware_ids: [stamp]}\nroutes:\n")
	for i := range s.routes {
		fmt.Fprintf(&c, "  - {name: r%d, path: /r%d/*, service_id: files, pipeline_id: front}\n", i, i)
	}
	if s.tls {
		fmt.Fprintf(&c, "certificates:\n  - {name: front, default: true, cert_pem: %q, key_pem: %q}\n", b.certPEM, b.keyPEM)
	}
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(c.String()), 0o644); err != nil {
		return nil, err
	}
	plain, secure := address, ""
	if s.tls {
		plain, secure = "", address
	}
	args := []string{"--config", file, "--http-addr", plain, "--https-addr", secure, "--status-addr", "127.0.0.1:0", "--data-dir", dir}
	if s.accessLog {
		args = append(args, "--access-log", filepath.Join(dir, "access.log"))
	}
	args = append(args, g.args...)
	return launch(s.proxyCores(), []string{"GOMAXPROCS=" + strconv.Itoa(s.cores)}, path, args...)
}
