package proxy

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"gateway.internal/shared/waittest"
)

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
