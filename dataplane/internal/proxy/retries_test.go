package proxy

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/shared/waittest"
)

// troubled is a node before a service with two endpoints, whose calls, counted from 1, are answered by a function.
type troubled struct {
	*gateway
	client *http.Client
	calls  atomic.Int32
	config string
}

// trouble starts one. policy is what the policy says, besides the back-off.
func trouble(
	t *testing.T, version, protocol, policy string,
	answer func(n int32, endpoint string, w http.ResponseWriter, r *http.Request),
) *troubled {
	t.Helper()
	s := &troubled{client: clientOf(t, version)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(s.calls.Add(1), r.Context().Value(http.LocalAddrContextKey).(net.Addr).String(), w, r)
	})
	var endpoints []string
	for range 2 {
		server := httptest.NewUnstartedServer(handler)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		if protocol != "http" {
			server.Config.Protocols = &http.Protocols{}
			server.Config.Protocols.SetUnencryptedHTTP2(true)
		}
		server.Start()
		t.Cleanup(server.Close)
		host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
		endpoints = append(endpoints, fmt.Sprintf("{host: %s, port: %s}", host, port))
	}
	s.config = troubledConfig(protocol, strings.Join(endpoints, ", "), policy)
	s.gateway = start(t, s.config)
	return s
}

func troubledConfig(protocol, endpoints, policy string) string {
	return fmt.Sprintf(`services: [{name: s, protocol: %s, policy_id: p, endpoints: [%s],
  connection_pool: {response_timeout: 20s, connect_timeout: 20s}}]
routes: [{name: all, path: /*, service_id: s}]
policies: [{name: p, %s}]
`, protocol, endpoints, policy)
}

// series returns the sums of the services' series of a metric, by the value of a label.
func (g *gateway) series(metric, label string) map[string]float64 {
	g.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(g.services)
	all, err := registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	n := map[string]float64{}
	for _, family := range all {
		if family.GetName() != metric {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label {
					n[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// ask returns status and body, and an error as text.
func (s *troubled) ask(method, path string, body io.Reader) string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.address+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(req)
}

func (s *troubled) do(req *http.Request) string {
	s.t.Helper()
	res, err := s.client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(res.StatusCode, " ", string(b))
}

// fast is a back-off for tests.
const fast = "backoff: {base: 1ms, max: 2ms}"

// TestRetryConditions has the first call of each request go wrong in a way that the policy names.
func TestRetryConditions(t *testing.T) {
	for _, c := range []struct{ name, on, extra, reason string }{
		{"503", "gateway_error", "", "gateway_error"},
		{"504", "gateway_error", "", "gateway_error"},
		{"500", "5xx", "", "5xx"},
		{"599", "5xx", "", "5xx"},
		{"429", "retriable_statuses", ", retriable_statuses: [429, 409]", "retriable_statuses"},
		{"reset", "reset", "", "reset"},
		{"reset", "5xx", "", "5xx"},
		{"hang", "per_try_timeout", ", per_try_timeout: 250ms", "per_try_timeout"},
		{"large 503", "gateway_error", "", "gateway_error"},
		{"endless 503", "gateway_error", "", "gateway_error"},
	} {
		t.Run(c.name+" by "+c.on, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				if c.name == "hang" && version == "HTTP/2" {
					return // it takes its time
				}
				var first atomic.Value
				policy := fmt.Sprintf("retry: {on: [%s], %s%s}", c.on, fast, c.extra)
				s := trouble(t, version, protocol, policy, func(n int32, at string, w http.ResponseWriter, r *http.Request) {
					if n%2 == 0 {
						if first.Load() == at {
							t.Error("the same endpoint was asked twice")
						}
						_, _ = fmt.Fprint(w, "good")
						return
					}
					first.Store(at)
					misbehaveAs(c.name, w, r)
				})
				for i := range 2 { // the later one on a connection that has been used, and perhaps in a loop
					if got := s.ask("GET", "/", nil); got != "200 good" {
						t.Fatalf("request %d got %.100q", i, got)
					}
				}
				if n := s.calls.Load(); n != 4 {
					t.Errorf("%d calls", n)
				}
				if n := s.series("gateway_retries_total", "reason"); n[c.reason] != 2 || len(n) != 1 {
					t.Errorf("retries: %v", n)
				}
				waittest.Until(t, "the access log says so", func() bool {
					return strings.Count(s.logged(), `"attempts":2`) == 2
				})
			})
		})
	}
}

// misbehaveAs answers a call as its name says.
func misbehaveAs(how string, w http.ResponseWriter, r *http.Request) {
	var status int
	switch {
	case how == "reset":
		panic(http.ErrAbortHandler)
	case how == "hang":
		<-r.Context().Done()
		return
	case strings.HasPrefix(how, "large"):
		w.WriteHeader(503)
		_, _ = w.Write(make([]byte, 1<<20))
		return
	case strings.HasPrefix(how, "endless"):
		w.WriteHeader(503)
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	_, _ = fmt.Sscan(how, &status)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "bad")
}

// TestNotRetried has what the policy does not allow reach the client as it is.
func TestNotRetried(t *testing.T) {
	for _, c := range []struct {
		name, policy, method, want string
		calls                      int32
	}{
		{"another status", "on: [gateway_error]", "GET", "500 bad", 1},
		{"a method that is not idempotent", "on: [5xx]", "POST", "500 bad", 1},
		{"a method that the policy does not name", "on: [5xx], methods: [PUT]", "GET", "500 bad", 1},
		{"no more attempts", "on: [5xx], attempts: 3, " + fast, "GET", "500 bad", 3},
		{"one attempt", "on: [5xx], attempts: 1", "GET", "500 bad", 1},
		{"no budget", "on: [5xx], budget_percent: 0, min_retries_per_second: 0", "GET", "500 bad", 1},
		{"POST where it is named", "on: [5xx], methods: [POST], " + fast, "POST", "500 bad", 2},
		{"any method", "on: [5xx], any_method: true, " + fast, "PATCH", "500 bad", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				policy := "retry: {" + c.policy + "}"
				s := trouble(t, version, protocol, policy, func(_ int32, _ string, w http.ResponseWriter, r *http.Request) {
					misbehaveAs("500", w, r)
				})
				if got := s.ask(c.method, "/", nil); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if n := s.calls.Load(); n != c.calls {
					t.Errorf("%d calls, want %d", n, c.calls)
				}
			})
		})
	}
}

// TestRetriedBodies sends bodies again that are as long as what is kept, and no longer ones, however they come.
func TestRetriedBodies(t *testing.T) {
	const limit = 100_000
	for _, c := range []struct {
		name   string
		length int
		known  bool
		calls  int32
	}{
		{"small", 10, true, 2}, {"small, of unknown length", 10, false, 2}, {"at the limit", limit, true, 2},
		{"at the limit, of unknown length", limit, false, 2}, {"above the limit", limit + 1, true, 1},
		{"above the limit, of unknown length", limit + 1, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				policy := fmt.Sprintf("retry: {on: [5xx], max_body_bytes: %d, %s}", limit, fast)
				s := trouble(t, version, protocol, policy, func(n int32, _ string, w http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					if n == 1 {
						w.WriteHeader(503)
					}
					_, _ = fmt.Fprint(w, len(b), " ", strings.Count(string(b), "x"))
				})
				var body io.Reader = strings.NewReader(strings.Repeat("x", c.length))
				if !c.known {
					body = io.MultiReader(body)
				}
				want := fmt.Sprint(200, " ", c.length, " ", c.length)
				if c.calls == 1 {
					want = fmt.Sprint(503, " ", c.length, " ", c.length)
				}
				if got := s.ask("PUT", "/", body); got != want || s.calls.Load() != c.calls {
					t.Errorf("got %q after %d calls, want %q after %d", got, s.calls.Load(), want, c.calls)
				}
			})
		})
	}
}

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

// TestDyingServiceIsNotStormed counts what a service gets all of whose responses are bad.
func TestDyingServiceIsNotStormed(t *testing.T) {
	const requests = 1000
	const policy = "retry: {attempts: 5, on: [5xx], min_retries_per_second: 1, backoff: {base: 0s, max: 0s}}"
	s := trouble(t, "HTTP/1.1", "http", policy,
		func(_ int32, _ string, w http.ResponseWriter, r *http.Request) { misbehaveAs("500", w, r) })
	for range requests {
		if got := s.ask("GET", "/", nil); got != "500 bad" {
			t.Fatalf("got %q", got)
		}
	}
	if n := s.calls.Load(); n > requests*12/10 || n < requests*11/10 {
		t.Errorf("%d requests became %d calls", requests, n)
	}
	if n := s.series("gateway_retry_budget_exhausted_total", "service")["s"]; n == 0 {
		t.Error("nobody says that the budget was used up")
	}
}

// TestHedge sends a request to the other endpoint when the first one is slow, and cancels the one that has lost.
func TestHedge(t *testing.T) {
	eachPair(t, func(t *testing.T, version, protocol string) {
		canceled := make(chan struct{}, 10)
		const policy = "hedge: {delay: 20ms}"
		s := trouble(t, version, protocol, policy, func(n int32, _ string, w http.ResponseWriter, r *http.Request) {
			if n%2 == 1 {
				<-r.Context().Done()
				canceled <- struct{}{}
				return
			}
			_, _ = io.WriteString(w, "good")
		})
		if got := s.ask("GET", "/", nil); got != "200 good" {
			t.Errorf("got %q", got)
		}
		waittest.Receive(t, "the end of the one that has lost", canceled)
		// On a machine that is busy, the hedge may come to the service before the attempt that it was begun beside.
		if n := s.series("gateway_hedges_total", "outcome"); n["won"]+n["lost"] != 1 {
			t.Errorf("hedges: %v", n)
		}
	})
}

// TestHedgeAndRetry retries where no attempt was good, and gives the client the best there is.
func TestHedgeAndRetry(t *testing.T) {
	for name, c := range map[string]struct {
		policy, want string
		calls        int32
	}{
		"a retry is good": {"hedge: {delay: 20s}, retry: {attempts: 2, on: [5xx], " + fast + "}", "200 good", 2},
		"no condition":    {"hedge: {delay: 20s}, retry: {attempts: 2, on: [reset], " + fast + "}", "500 bad", 1},
		"no budget": {
			"hedge: {delay: 1ms}, retry: {attempts: 1, budget_percent: 0, min_retries_per_second: 0}", "500 bad", 1,
		},
		"POST": {"hedge: {delay: 1ms}", "500 bad", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := trouble(t, "HTTP/1.1", "http", c.policy, func(n int32, _ string, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					misbehaveAs("500", w, r)
					return
				}
				_, _ = io.WriteString(w, "good")
			})
			method := "GET"
			if name == "POST" {
				method = name
			}
			if got := s.ask(method, "/", nil); got != c.want || s.calls.Load() != c.calls {
				t.Errorf("got %q after %d calls, want %q after %d", got, s.calls.Load(), c.want, c.calls)
			}
		})
	}
}

// TestHedgeByQuantile learns from responses when to hedge.
func TestHedgeByQuantile(t *testing.T) {
	var slow atomic.Int32
	s := trouble(t, "HTTP/1.1", "http", "timeout: 5s, hedge: {quantile: 0.9}",
		func(_ int32, _ string, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" && slow.Add(1)%2 == 1 {
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, "good")
		})
	for range 150 {
		if got := s.ask("GET", "/", nil); got != "200 good" {
			t.Fatalf("got %q", got)
		}
	}
	waittest.Until(t, "a slow request is hedged", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.address+"/slow", nil)
		if err != nil {
			t.Fatal(err)
		}
		return s.do(req) == "200 good" && s.series("gateway_hedges_total", "outcome")["won"] > 0
	})
}

// TestRetriesOfCalls has calls of gRPC sent again that are answered with a status alone.
func TestRetriesOfCalls(t *testing.T) {
	for status, name := range map[string]string{
		"1": "cancelled", "4": "deadline_exceeded", "8": "resource_exhausted", "13": "internal", "14": "unavailable", "5": "",
	} {
		t.Run(status+" "+name, func(t *testing.T) {
			on := name
			if on == "" {
				on = "unavailable"
			}
			s := trouble(t, "HTTP/2", "grpc", "retry: {on: ["+on+"], "+fast+"}",
				func(n int32, _ string, w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.Header().Set("Content-Type", "application/grpc")
					if n == 1 {
						w.Header().Set("Grpc-Status", status)
						return
					}
					_, _ = w.Write(frame(0, []byte("good")))
					w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
				})
			body := strings.NewReader(string(frame(0, nil)))
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.address+"/a/B", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/grpc")
			got := s.do(req)
			if good := strings.HasSuffix(got, "good"); good != (name != "") {
				t.Errorf("got %q after %d calls", got, s.calls.Load())
			}
			if n := s.series("gateway_retries_total", "reason"); name != "" && n[name] != 1 {
				t.Errorf("retries: %v", n)
			}
		})
	}
}

// TestDeadlineHeader tells services how much time is left, and believes clients only where the policy has that.
func TestDeadlineHeader(t *testing.T) {
	for _, c := range []struct {
		name, policy, client string
		least, most          int
	}{
		{"the timeout", "timeout: 10s", "", 9_000, 10_000},
		{"no limit", "accept_deadline: false", "", -1, -1},
		{"a client that is not believed", "timeout: 10s", "5000", 9_000, 10_000},
		{"a client without a limit that is not believed", "accept_deadline: false", "5000", -1, -1},
		{"a client that is believed", "timeout: 10s, accept_deadline: true", "5000", 4_000, 5_000},
		{"a client that is believed without a limit", "accept_deadline: true", "5000", 4_000, 5_000},
		{"a client that waits longer", "timeout: 10s, accept_deadline: true", "60000", 9_000, 10_000},
		{"nonsense", "timeout: 10s, accept_deadline: true", "-3", 9_000, 10_000},
		{"the time for one attempt", "timeout: 10s, retry: {per_try_timeout: 3s}", "", 2_000, 3_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				s := trouble(t, version, protocol, "deadline_header: X-Time, "+c.policy,
					func(_ int32, _ string, w http.ResponseWriter, r *http.Request) {
						_, _ = fmt.Fprint(w, r.Header["X-Time"])
					})
				for range 2 {
					req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.address+"/", nil)
					if err != nil {
						t.Fatal(err)
					}
					if c.client != "" {
						req.Header.Set("X-Time", c.client)
					}
					got, n := s.do(req), 0
					if c.least < 0 {
						if got != "200 []" {
							t.Errorf("got %q", got)
						}
					} else if _, err := fmt.Sscanf(got, "200 [%d]", &n); err != nil || n < c.least || n > c.most {
						t.Errorf("got %q, want %d to %d", got, c.least, c.most)
					}
				}
			})
		})
	}
}

// TestWhichTimeout tells which limit there was.
func TestWhichTimeout(t *testing.T) {
	for policy, want := range map[string]string{
		"timeout: 100ms":                  "the request took longer than its timeout allows",
		"retry: {per_try_timeout: 100ms}": "did not answer within per_try_timeout",
		"response_header_timeout: 100ms":  "within response_header_timeout",
		"retry: {per_try_timeout: 300ms}": "did not answer within per_try_timeout",
		"response_header_timeout: 300ms":  "within response_header_timeout",
	} {
		eachPair(t, func(t *testing.T, version, protocol string) {
			s := trouble(t, version, protocol, policy, func(_ int32, _ string, _ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
			})
			got := s.ask("GET", "/", nil)
			if !regexp.MustCompile(`^504 .*"code":"UPSTREAM_TIMEOUT","message":"[^"]*` + want).MatchString(got) {
				t.Errorf("%s: got %q", policy, got)
			}
		})
	}
}
