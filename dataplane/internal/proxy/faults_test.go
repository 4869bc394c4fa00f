package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// TestFaults injects faults into requests that ask for them, over each version of HTTP, in loops and without.
func TestFaults(t *testing.T) {
	host, port, _ := net.SplitHostPort(echo(t))
	g := start(t, fmt.Sprintf(`
services: [{name: s, endpoints: [{host: %s, port: %s}], policy_id: aborts}]
middleware: [{name: stamp, type: headers, config: {response: {set: {X-Step: ran}}}}]
pipelines: [{name: stamp, global: true, middleware_ids: [stamp]}]
policies:
  - {name: aborts, fault: {headers: [{name: X-Chaos, exact: "yes"}], abort: {status: 418}}}
  - {name: short, timeout: 300ms}
routes:
  - {name: of-service, path: /abort, service_id: s}
  - {name: late, path: /late, service_id: s, fault: {delay: {fixed: 30ms}}}
  - {name: too-late, path: /too-late, service_id: s, policy_id: short, fault: {delay: {fixed: 10m}}}
  - {name: calls, path: /calls, service_id: s, fault: {abort: {grpc_status: 8}}}
  - {name: some, path: /some, service_id: s, fault: {abort: {percent: 50}}}
`, host, port))
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		client := clientOf(t, version)
		for _, c := range []struct {
			path   string
			fields []string
			status int
			body   string
			least  time.Duration
		}{
			{"/abort", []string{"X-Chaos", "yes"}, 418, `"code":"FAULT_INJECTED"`, 0},
			{"/abort", []string{"X-Chaos", "no"}, 200, "GET /abort", 0},
			{"/late", []string{"X-Chaos", "yes"}, 200, "GET /late", 30 * time.Millisecond},
			{"/too-late", nil, 504, `"code":"UPSTREAM_TIMEOUT"`, 300 * time.Millisecond},
			{"/calls", nil, 503, `"code":"FAULT_INJECTED"`, 0},
		} {
			begun := time.Now()
			res, text := g.getAs(client, c.path, c.fields...)
			took := time.Since(begun)
			if res.StatusCode != c.status || !strings.Contains(text, c.body) || took < c.least {
				t.Errorf("%s: %s with %q: %d %s after %s", version, c.path, c.fields, res.StatusCode, text, took)
			}
			if res.Header.Get("X-Step") != "ran" {
				t.Errorf("%s: %s: middleware did not see the response", version, c.path)
			}
		}
		if version == "HTTP/2" {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.address+"/calls", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("Te", "trailers")
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			status, message := res.Header.Get("Grpc-Status"), res.Header.Get("Grpc-Message")
			if status != "8" || !strings.HasPrefix(message, "FAULT_INJECTED") {
				t.Errorf("a call: grpc-status %s, %s", status, message)
			}
		}
		statuses := map[int]int{}
		for range 60 {
			res, _ := g.getAs(client, "/some")
			statuses[res.StatusCode]++
		}
		if statuses[200] < 10 || statuses[503] < 10 {
			t.Errorf("%s: half of the requests: %v", version, statuses)
		}
	}
	counted := g.counted("gateway_faults_injected_total", "route", "late", "kind", "delay")
	if n := 2; int(counted) != n {
		t.Errorf("%v delays are counted, want %d", counted, n)
	}
}

// TestDelaysHoldNobodyUp makes many requests late for ever, and sends others meanwhile, also on the connections that
// loops serve.
func TestDelaysHoldNobodyUp(t *testing.T) {
	host, port, _ := net.SplitHostPort(echo(t))
	g := start(t, fmt.Sprintf(`
services: [{name: s, endpoints: [{host: %s, port: %s}]}]
routes:
  - {name: late, path: /late, service_id: s, fault: {delay: {fixed: 10m}}}
  - {name: other, path: /*, service_id: s}
`, host, port))
	var late []net.Conn
	for range 32 {
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		late = append(late, c)
		if _, err := io.WriteString(c, "GET /late HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	waittest.Until(t, "all are late", func() bool {
		return g.counted("gateway_faults_injected_total", "route", "late", "kind", "delay") == 32
	})
	client := clientOf(t, "HTTP/1.1")
	for range 8 {
		if res, _ := g.getAs(client, "/other"); res.StatusCode != http.StatusOK {
			t.Errorf("another request: %d", res.StatusCode)
		}
	}
	for _, c := range late {
		_ = c.Close()
	}
	waittest.Until(t, "the delays end with their clients", func() bool {
		return strings.Count(g.logged(), `"route":"late"`) == 32
	})
}
