package config

import (
	"fmt"
	"strings"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func (c *checker) service(m *configv1.Service) {
	c.oneOf("protocol", m.GetProtocol(), "http", "https", "h2c", "grpc", "grpcs")
	c.balancing(m)
	if len(m.GetEndpoints()) > 0 && m.GetDiscovery() != nil {
		c.fail("discovery", "", "can't be together with endpoints: they are either fixed or discovered")
	}
	if len(m.GetEndpoints()) > maxEndpoints {
		c.fail("endpoints", "", "has %d entries; %d are allowed", len(m.GetEndpoints()), maxEndpoints)
	}
	seen, ids := map[string]bool{}, map[string]bool{}
	for i, e := range m.GetEndpoints() {
		field := fmt.Sprintf("endpoints[%d]", i)
		c.endpoint(field, e)
		if id := e.GetId(); id != "" {
			switch {
			case !endpointID.MatchString(id):
				c.fail(field+".id", id, "has to be 1 to 128 characters of [A-Za-z0-9._-]")
			case ids[id]:
				c.fail(field+".id", id, "is there twice: ids are unique among the endpoints of a service")
			}
			ids[id] = true
		}
		key := EndpointKey(e)
		if seen[key] {
			c.fail(field, key, "is there twice")
		}
		seen[key] = true
	}
	if d := m.GetDiscovery(); d != nil {
		if d.GetSource() == nil {
			c.fail("discovery", "", "names no source; there is etcd")
		}
		if s := d.GetEtcd().GetService(); len(s) > 256 || strings.ContainsAny(s, "/\x00") {
			c.fail("discovery.etcd.service", s, `has to be up to 256 bytes without "/"`)
		}
	}
	c.serviceTLS(m)
	c.circuit(m.GetCircuitBreakerConfig())
	if h := m.GetHealthCheckConfig(); h != nil {
		c.healthCheck(h, orString(m.GetProtocol(), "http"))
		if h.GetType() == "grpc" && !SpeaksHTTP2(m) {
			c.fail("health_check_config.type", h.GetType(), `is for services of protocol "h2c", "grpc", "grpcs", or `+
				`"https" with tls.http2; this one is %q`, orString(m.GetProtocol(), "http"))
		}
	}
	if o := m.GetOutlierDetection(); o != nil {
		c.outlierDetection(o)
	}
	if p := m.GetConnectionPool(); p != nil {
		c.number("connection_pool.max_idle_connections", p.GetMaxIdleConnections(), 0, 65535)
		c.number("connection_pool.max_connections", p.GetMaxConnections(), 0, 65535)
		c.number("connection_pool.max_pending", p.GetMaxPending(), 0, 65535)
		c.duration("connection_pool.connect_timeout", p.GetConnectTimeout(), time.Millisecond, 5*time.Minute)
		c.duration("connection_pool.idle_timeout", p.GetIdleTimeout(), 100*time.Millisecond, 24*time.Hour)
		c.duration("connection_pool.max_age", p.GetMaxAge(), time.Second, 720*time.Hour)
		c.duration("connection_pool.response_timeout", p.GetResponseTimeout(), time.Millisecond, 24*time.Hour)
	}
}

// serviceTLS checks how connections to a service's endpoints are encrypted.
func (c *checker) serviceTLS(m *configv1.Service) {
	t := m.GetTls()
	if UsesTLS(m.GetProtocol()) && t.GetServerName() == "" && !t.GetInsecureSkipVerify() {
		for i, e := range m.GetEndpoints() {
			if _, isUnix := UnixPath(e.GetHost()); isUnix {
				c.fail("tls.server_name", "",
					"is required: endpoints[%d] is a Unix socket, which has no host to verify the certificate against", i)
				break
			}
		}
	}
	if t == nil {
		return
	}
	if !UsesTLS(m.GetProtocol()) {
		c.fail("tls", "", `is for the protocols "https" and "grpcs"; this service's is %q`, orString(m.GetProtocol(), "http"))
		return
	}
	if n := t.GetServerName(); n != "" && !ValidHost(n) {
		c.fail("tls.server_name", n, "has to be a DNS name or an IP address, without a port")
	}
	if t.GetCaPem() != "" {
		if err := checkAuthorities(t.GetCaPem()); err != nil {
			c.fail("tls.ca_pem", "", "%s", err)
		}
		if t.GetInsecureSkipVerify() {
			c.fail("tls.insecure_skip_verify", "true",
				"can't be together with ca_pem: one says that any certificate will do, the other which ones")
		}
	}
	c.oneOf("tls.min_version", t.GetMinVersion(), "1.2", "1.3")
	if t.GetHttp2() && m.GetProtocol() != "https" {
		c.fail("tls.http2", "true",
			`is for the protocol "https"; this service's, %q, is always spoken over HTTP/2`, m.GetProtocol())
	}
}
