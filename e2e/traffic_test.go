package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// newRedis starts a server without persistence, and returns its URL.
func newRedis(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redis-server is not installed: make tools")
	}
	port := fmt.Sprint(testserver.FreePort(t))
	launch(t, "redis-server", nil, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", t.TempDir(), "--requirepass", "secret")
	waittest.UntilNil(t, "Redis", func() error {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	return "redis://:secret@127.0.0.1:" + port
}

// troubled is a service that fails, or holds requests, by their path, and counts those that it fails.
type troubled struct {
	failed atomic.Int64
	held   chan struct{} // has something in it when a request is held
	let    chan struct{} // is closed when those that are held may go
}

func (s *troubled) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/fragile") {
		s.failed.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	s.held <- struct{}{}
	<-s.let
	_, _ = io.WriteString(w, "at last")
}

func newTroubled(t testing.TB) (s *troubled, port int) {
	t.Helper()
	s = &troubled{held: make(chan struct{}, 9), let: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	return s, ln.Addr().(*net.TCPAddr).Port
}

// reply is a response.
type reply struct {
	status int
	body   string
	header http.Header
}

// ask sends a GET with fields, names and values in turn.
func (n *node) ask(path string, fields ...string) (a reply) {
	n.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+n.http+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Error(err)
		return a
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		n.t.Error(err)
	}
	return reply{res.StatusCode, string(text), res.Header}
}

// TestTrafficIsManaged has two nodes with what production has on at once: clients that stay with a backend on each of
// them, a canary, a fault, priorities, and circuits that nodes share through Redis.
func TestTrafficIsManaged(t *testing.T) {
	redis := newRedis(t)
	g := newGateway(t)
	var nodes []*node
	for _, id := range []string{"one", "two"} {
		nodes = append(nodes, g.node(id, "--redis", redis, "--max-requests", "2"))
	}
	trouble, port := newTroubled(t)
	release := sync.OnceFunc(func() { close(trouble.let) })
	defer release()
	g.must(fmt.Sprintf(`services:
  - {name: v1, endpoints: [{host: 127.0.0.1, port: %d}]}
  - {name: v2, endpoints: [{host: 127.0.0.1, port: %d}]}
  - name: fragile
    endpoints: [{host: 127.0.0.1, port: %d}]
    circuit_breaker_config: {consecutive_failures: 3, timeout: 1h, shared: true}
  - {name: slow, endpoints: [{host: 127.0.0.1, port: %[3]d}]}
routes:
  - name: shop
    path: /shop/*
    sticky: {cookie: {name: shop}}
    backends:
      - {service_id: v1, weight: 50}
      - {service_id: v2, weight: 50, match: {headers: [{name: X-Canary, exact: "1"}]}}
  - {name: fault, path: /fault, service_id: v1, fault: {abort: {status: 418}}}
  - {name: fragile, path: /fragile, service_id: fragile}
  - {name: slow, path: /slow, service_id: slow, request_priority: low}
  - {name: payments, path: /pay, service_id: v1, request_priority: critical}
`, service(t, "v1"), service(t, "v2"), port), "apply", "-f", "-")
	for _, n := range nodes {
		n.runs(1)
		waittest.Until(t, n.id+" is connected to Redis", func() bool {
			_, text := get(t, "http://"+n.status+"/metrics")
			return strings.Contains(text, "\ngateway_redis_up 1\n")
		})
	}
	t.Run("clients stay, and canaries go before", func(t *testing.T) {
		led := map[string]int{}
		for i := range 40 {
			first := nodes[i%2].ask("/shop/cart")
			cookie, _, _ := strings.Cut(first.header.Get("Set-Cookie"), ";")
			led[first.body]++
			for _, n := range nodes {
				if got := n.ask("/shop/cart", "Cookie", cookie); got.body != first.body || got.header.Get("Set-Cookie") != "" {
					t.Errorf("the client of %s is led to %s by %s: %v", first.body, got.body, n.id, got.header)
				}
				if got := n.ask("/shop/cart", "Cookie", cookie, "X-Canary", "1"); got.body != "v2" {
					t.Errorf("a canary is led to %s", got.body)
				}
			}
		}
		if led["v1"] == 0 || led["v2"] == 0 || len(led) != 2 {
			t.Errorf("40 clients are led to %v", led)
		}
	})
	t.Run("faults on purpose", func(t *testing.T) {
		if got := nodes[0].ask("/fault"); got.status != 418 || !strings.Contains(got.body, "FAULT_INJECTED") {
			t.Errorf("%d %s", got.status, got.body)
		}
	})
	t.Run("the lowest are turned away first", func(t *testing.T) {
		held := make(chan reply, 1)
		go func() { held <- nodes[0].ask("/slow") }()
		waittest.Receive(t, "the request at the service", trouble.held)
		if got := nodes[0].ask("/slow"); got.status != 503 || !strings.Contains(got.body, "OVERLOADED") ||
			got.header.Get("Retry-After") == "" {
			t.Errorf("another one of low priority: %d %s", got.status, got.body)
		}
		if got := nodes[0].ask("/pay"); got.status != 200 {
			t.Errorf("a critical one: %d %s", got.status, got.body)
		}
		release()
		if got := waittest.Receive(t, "its response", held); got.status != 200 {
			t.Errorf("the one that was served: %d %s", got.status, got.body)
		}
	})
	t.Run("nodes share an open circuit", func(t *testing.T) {
		for range 3 {
			if got := nodes[0].ask("/fragile"); got.status != 500 {
				t.Errorf("before it opens: %d %s", got.status, got.body)
			}
		}
		waittest.Until(t, "both nodes say that it is open", func() bool {
			return strings.Count(g.must("", "circuits", "fragile"), " open ") == 2
		})
		for _, n := range nodes {
			if got := n.ask("/fragile"); got.status != 503 || !strings.Contains(got.body, "CIRCUIT_OPEN") {
				t.Errorf("%s: %d %s", n.id, got.status, got.body)
			}
		}
		if n := trouble.failed.Load(); n != 3 {
			t.Errorf("the service was asked %d times, want 3", n)
		}
	})
}
