package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// TestConnectFailuresAreRetried waits before the same endpoint is asked again, and tells the client in the end.
func TestConnectFailuresAreRetried(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	const policy = "retry: {attempts: 4, on: [connect_failure], " + fast + "}"
	g := start(t, troubledConfig("http", "{host: 127.0.0.1, port: "+port+"}", policy))
	res := g.raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", "POST")[0]
	if res.StatusCode != 502 {
		t.Errorf("got %d", res.StatusCode)
	}
	if n := g.series("gateway_retries_total", "reason"); n["connect_failure"] != 3 {
		t.Errorf("retries: %v", n)
	}
}

// TestLoadOfAnEndpointThatRefuses has an endpoint take no connections: what it would have got is shared evenly.
func TestLoadOfAnEndpointThatRefuses(t *testing.T) {
	once(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoints := []string{fmt.Sprintf("{host: 127.0.0.1, port: %d}", ln.Addr().(*net.TCPAddr).Port)}
	ln.Close()
	var calls [2]atomic.Int32
	for i := range calls {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls[i].Add(1) }))
		t.Cleanup(s.Close)
		port := s.Listener.Addr().(*net.TCPAddr).Port
		endpoints = append(endpoints, fmt.Sprintf("{host: 127.0.0.1, port: %d}", port))
	}
	config := troubledConfig("http", strings.Join(endpoints, ", "), "retry: {on: [connect_failure], "+fast+"}")
	s := &troubled{gateway: start(t, config), client: clientOf(t, "HTTP/1.1")}
	for range 60 {
		if got := s.ask("GET", "/", nil); got != "200 " {
			t.Fatalf("got %q", got)
		}
	}
	if a, b := calls[0].Load(), calls[1].Load(); a+b != 60 || a-b > 2 || b-a > 2 {
		t.Errorf("the others got %d and %d requests", a, b)
	}
}

// TestRetryAfter holds to what a response says where the same endpoint would be asked again, and else does not ask.
func TestRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		calls  int32
		least  time.Duration
	}{
		"respected":                {"max_retry_after: 1s", 2, time.Second},
		"longer than what is kept": {"max_retry_after: 900ms", 1, 0},
		"not respected":            {"respect_retry_after: false", 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			once(t)
			policy := "retry: {on: [retriable_statuses], retriable_statuses: [429], " + c.policy + ", " + fast + "}"
			s := trouble(t, "HTTP/1.1", "http", policy, func(n int32, _ string, w http.ResponseWriter, _ *http.Request) {
				if n == 1 {
					w.Header().Set("Retry-After", "1")
					w.WriteHeader(429)
				}
			})
			begun := time.Now()
			got := s.ask("GET", "/", nil)
			if took := time.Since(begun); took < c.least || s.calls.Load() != c.calls || (got == "200 ") != (c.calls == 2) {
				t.Errorf("got %q after %s and %d calls", got, took, s.calls.Load())
			}
		})
	}
}

// TestClientLeavesBackOff ends the exchange when the client goes away while it waits for another attempt.
func TestClientLeavesBackOff(t *testing.T) {
	lookOften(t)
	eachPair(t, func(t *testing.T, version, protocol string) {
		asked := make(chan struct{}, 10)
		const policy = "retry: {on: [5xx], max_retry_after: 5m, backoff: {base: 0s}, " +
			"retriable_statuses: [429], on: [retriable_statuses]}"
		s := trouble(t, version, protocol, strings.Replace(policy, "on: [5xx], ", "", 1),
			func(_ int32, _ string, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "200")
				w.WriteHeader(429)
				asked <- struct{}{}
			})
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 1)
		go func() { got <- s.do(req) }()
		waittest.Receive(t, "the first attempt", asked)
		leave()
		waittest.Receive(t, "the client", got)
		waittest.Until(t, "the exchange is over", func() bool {
			return strings.Contains(s.logged(), `"code":"CLIENT_CLOSED`)
		})
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}
