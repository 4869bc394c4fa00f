package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/via"
	"gateway.internal/shared/waittest"
)

// toHosts returns the configuration of a service for each host, at an address, and a route to it.
func toHosts(addresses map[string]string) string {
	var services, routes strings.Builder
	for name, address := range addresses {
		host, port, _ := net.SplitHostPort(address)
		fmt.Fprintf(&services, "  - {name: %s, endpoints: [{host: %s, port: %s}]}\n", name, host, port)
		fmt.Fprintf(&routes, "  - {name: %s, path: /*, hosts: [%s.test], service_id: %s}\n", name, name, name)
	}
	return "services:\n" + services.String() + "routes:\n" + routes.String()
}

// TestLoopsEnd has a service lead back to the node: one request must not become many.
func TestLoopsEnd(t *testing.T) {
	for _, protocol := range []string{"http", "h2c"} {
		g := startWith(t, codec.DefaultLimits(), "")
		g.apply(speaking(protocol, g.address, ""))
		// A comment that is not closed hides nothing of what comes behind it.
		res := g.raw("GET /a HTTP/1.1\r\nHost: a\r\nVia: 1.1 fred (\r\n\r\n", "GET")[0]
		if text := body(t, res); res.StatusCode != 508 || !strings.Contains(text, "LOOP_DETECTED") {
			t.Errorf("%s: %d %s", protocol, res.StatusCode, text)
		}
		var passed int
		waittest.Until(t, "a line for each time that the request passed", func() bool {
			passed = strings.Count(g.logged(), `"path":"/a"`)
			return passed > via.DefaultMaxVisits
		})
		if passed != via.DefaultMaxVisits+1 {
			t.Errorf("%s: the request passed %d times", protocol, passed)
		}
	}
}

// What only looks like a loop goes through: two gateways one behind the other, and a service that asks another one
// through the node that it was asked by.
func TestChainsAreNoLoops(t *testing.T) {
	last := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header.Get("Via"))
	}))
	t.Cleanup(last.Close)
	g := startWith(t, codec.DefaultLimits(), "")
	// The service "through" asks "last" through the node.
	through := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: g.address})
		r.Out.Host = "last.test"
	}})
	t.Cleanup(through.Close)
	g.apply(toHosts(map[string]string{"through": through.Listener.Addr().String(), "last": last.Listener.Addr().String()}))
	before := startWith(t, codec.DefaultLimits(), toHosts(map[string]string{"through": g.address}))
	for from, want := range map[*gateway]string{
		g: "1.0 fred (a, b), 1.1 gateway, 1.1 gateway", before: "1.0 fred (a, b), 1.1 gateway, 1.1 gateway, 1.1 gateway",
	} {
		res := from.raw("GET /a HTTP/1.1\r\nHost: through.test\r\nVia: 1.0 fred (a, b)\r\n\r\n", "GET")[0]
		if got := body(t, res); res.StatusCode != 200 || got != want {
			t.Errorf("%d %q, want %q", res.StatusCode, got, want)
		}
	}
}
