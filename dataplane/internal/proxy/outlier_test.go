package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/shared/waittest"
)

// TestABrokenEndpointIsEjectedAndReturns has one of three endpoints not work, each way in which that can be: soon it is
// asked no more, nobody sees it, and when it works again it has its share.
func TestABrokenEndpointIsEjectedAndReturns(t *testing.T) {
	for _, c := range []struct {
		name, timeout, reason string
		breaks                func(c net.Conn, r *bufio.Reader)
	}{
		{"errors", "20s", "consecutive_5xx", func(c net.Conn, _ *bufio.Reader) {
			fmt.Fprint(c, "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")
		}},
		{"resets", "20s", "consecutive_gateway_failures", func(c net.Conn, _ *bufio.Reader) { c.Close() }},
		{"silence", "100ms", "consecutive_gateway_failures", func(_ net.Conn, r *bufio.Reader) { _, _ = r.ReadByte() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var broken atomic.Bool
			broken.Store(true)
			var asked [3]atomic.Int64
			var endpoints []string
			for i := range asked {
				address := scripted(t, func(_ int, conn net.Conn, r *bufio.Reader) {
					for {
						req, err := http.ReadRequest(r)
						if err != nil {
							return
						}
						_, _ = io.Copy(io.Discard, req.Body)
						asked[i].Add(1)
						if i == 1 && broken.Load() {
							c.breaks(conn, r)
							return
						}
						fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				})
				host, port, _ := net.SplitHostPort(address)
				endpoints = append(endpoints, fmt.Sprintf("{host: %s, port: %s}", host, port))
			}
			g := start(t, fmt.Sprintf(`services:
  - name: s
    endpoints: [%s]
    connection_pool: {response_timeout: %s, connect_timeout: 20s}
    outlier_detection: {consecutive_5xx: 3, consecutive_gateway_failures: 3, interval: 1s, base_ejection_time: 500ms}
routes: [{name: all, path: /*, service_id: s}]
`, strings.Join(endpoints, ", "), c.timeout))
			// POST: nobody sends it again, so that each failure is seen.
			ask := func() bool {
				t.Helper()
				return strings.HasPrefix(
					readAll(t, g, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), "HTTP/1.1 200 ")
			}
			ejected := func() float64 { return g.sampleSum("gateway_outlier_ejected", "endpoint", "") }
			failures := 0
			waittest.Until(t, "an ejection", func() bool {
				if !ask() {
					failures++
				}
				return ejected() == 1
			})
			if failures < 3 || failures > 5 {
				t.Errorf("clients saw %d failures before the ejection of three", failures)
			}
			if n := g.sampleSum("gateway_outlier_ejections_total", "reason", c.reason); n != 1 {
				t.Errorf("%v ejections for %s", n, c.reason)
			}
			broken.Store(false)
			before := asked[1].Load()
			for range 20 {
				if ejected() == 1 {
					if !ask() {
						t.Error("a request failed while it is ejected")
					}
				}
			}
			if n := asked[1].Load() - before; n > 0 && ejected() == 1 {
				t.Errorf("asked %d times while it is ejected", n)
			}
			waittest.Until(t, "its return", func() bool { return ask() && asked[1].Load() > before })
			if ejected() != 0 {
				t.Error("it is asked while it is ejected")
			}
			for _, want := range []string{"endpoint is ejected", "reason=" + c.reason + " duration=500ms", "is tried again"} {
				if n := strings.Count(g.log.String(), want); n != 1 {
					t.Errorf("%d log lines have %q:\n%s", n, want, g.log.String())
				}
			}
		})
	}
}

// sampleSum returns the sum of a metric's samples whose label contains a text.
func (g *gateway) sampleSum(name, label, has string) (sum float64) {
	g.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(g.services)
	families, err := registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && strings.Contains(l.GetValue(), has) {
					sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
