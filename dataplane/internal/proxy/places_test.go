package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// TestRetryHasThePlaceOfItsRequest retries, and hedges, before a bulkhead with a single place, which the exchange has
// itself: it does not wait for itself, and there are no more requests at the service than there may be.
func TestRetryHasThePlaceOfItsRequest(t *testing.T) {
	const bulkhead = "type: hystrix, max_concurrent: 1, max_pending: 1"
	for name, c := range map[string]struct {
		policy string
		calls  int32
	}{
		"retry":                 {"retry: {on: [5xx], attempts: 3, " + fast + "}", 3},
		"retry beside a hedge":  {"hedge: {delay: 10s}, retry: {on: [5xx], attempts: 3, " + fast + "}", 3},
		"hedge without a place": {"hedge: {delay: 1ms}", 1},
	} {
		t.Run(name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				s := trouble(t, version, protocol, c.policy,
					func(n int32, _ string, w http.ResponseWriter, r *http.Request) {
						if n < c.calls {
							misbehaveAs("500", w, r)
							return
						}
						if c.calls == 1 {
							slowly(r)
						}
						_, _ = io.WriteString(w, "good")
					})
				s.apply(withCircuit(s.config, bulkhead))
				begun := time.Now()
				if got := s.ask("GET", "/", nil); got != "200 good" || s.calls.Load() != c.calls {
					t.Errorf("got %q after %d calls, want %d", got, s.calls.Load(), c.calls)
				}
				if took := time.Since(begun); took > 15*time.Second {
					t.Errorf("it took %s: as long as one waits for a place", took)
				}
				circuit := s.services.Get(s.serviceID()).Circuit()
				waittest.Until(t, "the place is given back, once", func() bool {
					return circuit.Status(time.Now()).Concurrent == 0
				})
			})
		})
	}
}

// slowly lets 30 ms pass.
func slowly(r *http.Request) {
	timer := time.NewTimer(30 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

// TestBackOffGivesItsPlace has a request wait for minutes before its retry: others are served meanwhile, although the
// service takes one at a time.
func TestBackOffGivesItsPlace(t *testing.T) {
	lookOften(t)
	const retry = "retry: {on: [retriable_statuses], retriable_statuses: [429], max_retry_after: 5m}"
	for name, policy := range map[string]string{"retry": retry, "retry beside a hedge": "hedge: {delay: 10s}, " + retry} {
		t.Run(name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				asked := make(chan struct{}, 9)
				s := trouble(t, version, protocol, policy, func(n int32, _ string, w http.ResponseWriter, _ *http.Request) {
					if n == 1 {
						w.Header().Set("Retry-After", "200")
						w.WriteHeader(429)
						asked <- struct{}{}
					}
				})
				s.apply(withCircuit(s.config, "type: hystrix, max_concurrent: 1"))
				circuit := s.services.Get(s.serviceID()).Circuit()
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.address+"/", nil)
				if err != nil {
					t.Fatal(err)
				}
				got := make(chan string, 1)
				go func() { got <- s.do(req) }()
				waittest.Receive(t, "the first attempt", asked)
				waittest.Until(t, "its place is free", func() bool { return circuit.Status(time.Now()).Concurrent == 0 })
				if text := s.ask("GET", "/", nil); text != "200 " {
					t.Errorf("another request got %q", text)
				}
				select {
				case text := <-got:
					t.Errorf("the first has not waited: %q", text)
				default:
				}
				leave()
				waittest.Receive(t, "the client", got)
			})
		})
	}
}

// TestRefusedRequestsHaveNoRetries has an open circuit refuse requests: they add nothing to what may be retried.
func TestRefusedRequestsHaveNoRetries(t *testing.T) {
	eachPair(t, func(t *testing.T, version, protocol string) {
		s := trouble(t, version, protocol, "retry: {on: [5xx], "+fast+"}",
			func(int32, string, http.ResponseWriter, *http.Request) {})
		s.apply(withCircuit(s.config, "consecutive_failures: 1"))
		service := s.services.Get(s.serviceID())
		budget := &service.Retries.Budget
		service.Circuit().ForceOpen(time.Now(), time.Time{})
		for range 3 {
			if text := s.ask("GET", "/", nil); !strings.HasPrefix(text, "503 ") {
				t.Errorf("the client got %q", text)
			}
		}
		if budget.Take(time.Now(), 100, 0) {
			t.Error("there may be a retry although the service was not asked")
		}
		service.Circuit().Reset(time.Now())
		if text := s.ask("GET", "/", nil); text != "200 " {
			t.Errorf("the client got %q", text)
		}
		if now := time.Now(); !budget.Take(now, 100, 0) || budget.Take(now, 100, 0) {
			t.Error("one request is not one")
		}
	})
}
