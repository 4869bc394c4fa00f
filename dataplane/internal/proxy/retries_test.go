package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// TestRetryConditions has the first call of each request go wrong in a way that the policy names.
func TestRetryConditions(t *testing.T) {
	const perTry = 250 * time.Millisecond
	for _, c := range []struct{ name, on, extra, reason string }{
		{"503", "gateway_error", "", "gateway_error"},
		{"504", "gateway_error", "", "gateway_error"},
		{"500", "5xx", "", "5xx"},
		{"599", "5xx", "", "5xx"},
		{"429", "retriable_statuses", ", retriable_statuses: [429, 409]", "retriable_statuses"},
		{"reset", "reset", "", "reset"},
		{"reset", "5xx", "", "5xx"},
		{"hang", "per_try_timeout", ", per_try_timeout: " + perTry.String(), "per_try_timeout"},
		{"large 503", "gateway_error", "", "gateway_error"},
		{"endless 503", "gateway_error", "", "gateway_error"},
	} {
		t.Run(c.name+" by "+c.on, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				if c.name == "hang" && version == "HTTP/2" {
					return // it takes its time
				}
				retried := func() error {
					var first atomic.Value
					var same atomic.Bool
					policy := fmt.Sprintf("retry: {on: [%s], %s%s}", c.on, fast, c.extra)
					s := trouble(t, version, protocol, policy, func(n int32, at string, w http.ResponseWriter, r *http.Request) {
						if n%2 == 0 {
							if first.Load() == at {
								same.Store(true)
							}
							_, _ = fmt.Fprint(w, "good")
							return
						}
						first.Store(at)
						misbehaveAs(c.name, w, r)
					})
					for i := range 2 { // the later one on a connection that has been used, and perhaps in a loop
						if got := s.ask("GET", "/", nil); got != "200 good" {
							return fmt.Errorf("request %d got %.100q", i, got)
						}
					}
					if n := s.calls.Load(); n != 4 || same.Load() {
						return fmt.Errorf("%d calls, the same endpoint was asked twice: %v", n, same.Load())
					}
					if n := s.series("gateway_retries_total", "reason"); n[c.reason] != 2 || len(n) != 1 {
						return fmt.Errorf("retries: %v", n)
					}
					waittest.Until(t, "the access log says so", func() bool {
						return strings.Count(s.logged(), `"attempts":2`) == 2
					})
					return nil
				}
				waittest.UntilNil(t, "two requests, of which only the first attempts are late", func() error {
					begun := time.Now()
					err := retried()
					// On a busy machine an attempt that is answered may be late too, and is a third one that ends so.
					if busy := c.name == "hang" && time.Since(begun) >= 3*perTry; err != nil && !busy {
						t.Error(err)
						return nil
					}
					return err
				})
			})
		})
	}
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
