package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// numbered starts services that answer with their number, and returns them as endpoints of a configuration.
func numbered(t *testing.T, n int) string {
	t.Helper()
	endpoints := make([]string, n)
	for i := range endpoints {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/set" {
				w.Header().Add("Set-Cookie", "own=1; Path=/")
			}
			_, _ = fmt.Fprint(w, "endpoint ", i)
		}))
		t.Cleanup(s.Close)
		host, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		endpoints[i] = fmt.Sprintf("{host: %s, port: %s}", host, port)
	}
	return "[" + strings.Join(endpoints, ", ") + "]"
}

func balancedBy(kind, settings, endpoints string) string {
	return fmt.Sprintf(`services: [{name: s, endpoints: %s, load_balancer_type: %s, load_balancer_config: {%s}}]
routes: [{name: user, path: "/users/{id}", service_id: s}, {name: all, path: /*, service_id: s}]
`, endpoints, kind, settings)
}

// TestAffinity sends requests with each kind of key, in loops and without: clients without a cookie are given one,
// and what has the same key goes to the same endpoint.
func TestAffinity(t *testing.T) {
	endpoints := numbered(t, 4)
	const cookie = "hash_key: {cookie: {name: at, ttl: 1h, same_site: strict}}"
	g := start(t, balancedBy("consistent_hash", cookie, endpoints))
	for _, path := range []string{"/", "/set"} {
		first := g.raw("GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]
		to, cookies := body(t, first), first.Cookies()
		own := len(cookies) - 1
		if own < 0 || cookies[own].Name != "at" || cookies[own].MaxAge != 3600 || !cookies[own].HttpOnly ||
			cookies[own].SameSite != http.SameSiteStrictMode ||
			path == "/set" && own != 1 {
			t.Fatalf("%s: the cookies are %v", path, first.Header["Set-Cookie"])
		}
		c := g.client()
		for range 12 {
			c.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\nCookie: at=" + cookies[own].Value + "\r\n\r\n")
			if got := c.read(); got != "200 "+to {
				t.Fatalf("%s: %s after %s", path, got, to)
			}
		}
		again := g.raw("GET / HTTP/1.1\r\nHost: a\r\nCookie: at="+cookies[own].Value+"\r\n\r\n", "GET")[0]
		if set := again.Header["Set-Cookie"]; len(set) > 0 {
			t.Errorf("%s: a client that has its cookie gets %v", path, set)
		}
	}

	g.apply(balancedBy("consistent_hash", "hash_key: {path_parameter: id}", endpoints))
	c := g.client()
	seen := map[string]bool{}
	for id := range 24 {
		path := fmt.Sprint("/users/", id)
		to := c.get(path)
		seen[to] = true
		for range 3 {
			if got := c.get(path); got != to {
				t.Fatalf("%s: %s after %s", path, got, to)
			}
		}
	}
	if len(seen) < 3 {
		t.Errorf("24 keys go to %v", seen)
	}
}

// TestEveryStrategyInLoops: exchanges stay in loops, whichever strategy chooses their endpoint.
func TestEveryStrategyInLoops(t *testing.T) {
	endpoints := numbered(t, 2)
	g := startInLoops(t, balancedBy("round_robin", "", endpoints))
	for _, kind := range []string{
		"round_robin", "weighted_round_robin", "least_connections", "random", "consistent_hash", "peak_ewma",
	} {
		settings := "zone_label: zone, panic_threshold: 50"
		if kind != "consistent_hash" {
			settings += ", slow_start: {window: 1s}"
		} else {
			settings += ", hash_balance_factor: 150, hash_key: {header: X-Key}"
		}
		g.apply(balancedBy(kind, settings, endpoints))
		c := g.client()
		for range 20 {
			if got := c.get("/"); !strings.HasPrefix(got, "200 endpoint ") {
				t.Fatalf("%s: %s", kind, got)
			}
		}
		waittest.Until(t, kind+": connections of the client's and of an endpoint's are in loops", func() bool {
			return g.loops.Len() >= 2
		})
		_ = c.Close()
	}
}
