package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// holding is a service that answers requests when it is told to, and tells in which order they came.
type holding struct {
	address string
	release chan struct{}
	mu      sync.Mutex
	came    []string
}

// newHolding starts one that takes two requests at once, with the settings for the pool that go with that.
func newHolding(t *testing.T, protocol string) (*holding, string) {
	h := &holding{release: make(chan struct{}, 1000)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.came = append(h.came, r.URL.Path)
		h.mu.Unlock()
		select {
		case <-h.release:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "ok")
	})
	if protocol == "h2c" {
		h.address = newH2Server(t, &http.HTTP2Config{MaxConcurrentStreams: 2}, handler).address
		return h, ", max_connections: 1"
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	h.address = server.Listener.Addr().String()
	return h, ", max_connections: 2"
}

func (h *holding) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.came)
}

// metric returns the sum of a metric of the services'.
func (g *gateway) metric(name string) (sum int) {
	g.t.Helper()
	all := prometheus.NewRegistry()
	all.MustRegister(g.services)
	families, err := all.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += int(m.GetGauge().GetValue() + m.GetCounter().GetValue())
			}
		}
	}
	return sum
}

func (g *gateway) pending(n int) {
	g.t.Helper()
	waittest.Until(g.t, fmt.Sprint(n, " pending requests"), func() bool { return g.metric("gateway_upstream_pending_requests") == n })
}

// both runs a test against services of both versions that are asked for more at once than they take. two requests are
// under way.
func both(t *testing.T, pool, rest string, test func(t *testing.T, g *gateway, h *holding, ask func(path string) <-chan string)) {
	for _, protocol := range []string{"http", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			h, limit := newHolding(t, protocol)
			g := startWith(t, codec.DefaultLimits(),
				strings.Replace(respondingWithin("5m", speaking(protocol, h.address, limit)), "connect_timeout: 20s",
					pool, 1)+rest)
			// A first answer tells how many streams there may be.
			h.release <- struct{}{}
			if status, text := g.get("/first"); status != 200 {
				t.Fatal(status, text)
			}
			ask := func(path string) <-chan string {
				answer := make(chan string, 1)
				go func() {
					status, text := g.get(path)
					if status != 200 {
						_, text, _ = strings.Cut(text, `"code":"`)
						text, _, _ = strings.Cut(text, `"`)
					}
					answer <- fmt.Sprint(status, " ", text)
				}()
				return answer
			}
			under := []<-chan string{ask("/under"), ask("/under")}
			waittest.Until(t, "two requests under way", func() bool { return h.requests() == 3 })
			t.Cleanup(func() {
				for range 100 {
					h.release <- struct{}{}
				}
				for _, u := range under {
					<-u
				}
			})
			test(t, g, h, ask)
			if n := g.metric("gateway_upstream_pending_requests"); n != 0 {
				t.Errorf("%d requests are still pending", n)
			}
		})
	}
}

func hear(t *testing.T, answer <-chan string, want string) {
	t.Helper()
	if got := waittest.Receive(t, "an answer: "+want, answer); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Requests that a service does not take yet wait, and are served in the order in which they came.
func TestPendingInOrder(t *testing.T) {
	both(t, "connect_timeout: 5m", "", func(t *testing.T, g *gateway, h *holding, ask func(string) <-chan string) {
		const n = 20
		var answers []<-chan string
		for i := range n {
			answers = append(answers, ask(fmt.Sprint("/", i)))
			g.pending(i + 1)
		}
		for i := range n {
			h.release <- struct{}{}
			waittest.Until(t, "the next request", func() bool { return h.requests() == 3+i+1 })
			h.mu.Lock()
			if got := h.came[3+i]; got != fmt.Sprint("/", i) {
				t.Errorf("%s came as number %d of those that waited", got, i)
			}
			h.mu.Unlock()
		}
		for range n {
			h.release <- struct{}{}
		}
		for _, answer := range answers {
			hear(t, answer, "200 ok")
		}
	})
}

// No more than max_pending wait.
func TestPendingLimit(t *testing.T) {
	both(t, "max_pending: 2, connect_timeout: 5m", "", func(t *testing.T, g *gateway, h *holding, ask func(string) <-chan string) {
		first, second := ask("/1"), ask("/2")
		g.pending(2)
		for range 3 {
			hear(t, ask("/too-many"), "503 UPSTREAM_OVERLOADED")
		}
		if n := g.metric("gateway_upstream_pending_refused_total"); n != 3 {
			t.Errorf("%d were counted as refused, not 3", n)
		}
		for range 4 {
			h.release <- struct{}{}
		}
		hear(t, first, "200 ok")
		hear(t, second, "200 ok")
	})
}

// A request waits no longer than its deadline, or than a connection may take to be opened.
func TestPendingTime(t *testing.T) {
	const short = "---\nroutes: [{name: short, path: /short, service_id: s, policy_id: p}]\npolicies: [{name: p, timeout: 300ms}]\n"
	both(t, "connect_timeout: 2s", short, func(t *testing.T, g *gateway, h *holding, ask func(string) <-chan string) {
		for _, c := range []struct {
			path, want string
			after      time.Duration
		}{
			{"/short", "504 UPSTREAM_TIMEOUT", 300 * time.Millisecond},
			{"/long", "503 UPSTREAM_OVERLOADED", 2 * time.Second}, // the connect timeout
		} {
			begun := time.Now()
			hear(t, ask(c.path), c.want)
			if took := time.Since(begun); took < c.after || took > c.after+waittest.Limit {
				t.Errorf("%s after %s", c.path, took)
			}
		}
	})
}

// A client that goes away leaves the queue.
func TestPendingClientGoes(t *testing.T) {
	lookOften(t)
	both(t, "max_pending: 1, connect_timeout: 5m", "", func(t *testing.T, g *gateway, h *holding, ask func(string) <-chan string) {
		for version, transport := range transports() {
			client := &http.Client{Transport: transport}
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.address+"/gone", nil)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				res, err := client.Do(req)
				if err == nil {
					_ = res.Body.Close()
				}
				ended <- err
			}()
			g.pending(1)
			cancel()
			if err := <-ended; err == nil {
				t.Errorf("HTTP/%d: an answer came", version+1)
			}
			g.pending(0)
			transport.CloseIdleConnections()
		}
		answer := ask("/next")
		g.pending(1)
		for range 3 {
			h.release <- struct{}{}
		}
		hear(t, answer, "200 ok")
	})
}
