package health

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/shared/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check() config.HealthCheck {
	return config.HealthCheck{Type: "http", Path: "/", Interval: time.Second, Timeout: time.Second, Unhealthy: 3, Healthy: 2}
}

func TestThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		probed := make(chan struct{})
		c := NewChecker(slog.New(slog.DiscardHandler), func(ctx context.Context, _ Target) error {
			select {
			case probed <- struct{}{}:
			case <-ctx.Done():
			}
			if broken.Load() {
				return errors.New("broken")
			}
			return nil
		})
		defer c.Close()
		checks := func(n int) {
			for range n {
				<-probed
			}
			synctest.Wait()
		}
		state := &balance.State{}
		target := Target{ServiceID: "s", Host: "h", Port: 1, State: state, Check: check()}
		c.Set([]Target{target})
		checks(3)
		if !state.Healthy() || len(c.Report(false)) != 1 {
			t.Error("a passing endpoint is not healthy and reported")
		}
		broken.Store(true)
		checks(2)
		if !state.Healthy() {
			t.Error("unhealthy before three checks failed")
		}
		checks(1)
		if state.Healthy() {
			t.Error("healthy after three checks failed")
		}
		if r := c.Report(true); len(r) != 1 || r[0].GetHealthy() || r[0].GetError() != "broken" {
			t.Errorf("report %v", r)
		}
		c.Set([]Target{target}) // the same: its history stays
		broken.Store(false)
		checks(1)
		if state.Healthy() {
			t.Error("healthy after one check")
		}
		checks(1)
		if !state.Healthy() {
			t.Error("not healthy after two checks")
		}
	})
}

func TestRealChecks(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ok" || r.Host != "svc.example.com" {
			w.WriteHeader(500)
		}
	}))
	defer server.Close()
	host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	n, _ := strconv.Atoi(port)
	probe := newProbe()
	target := Target{Host: host, Port: uint32(n), Check: config.HealthCheck{Type: "http", Path: "/ok", Host: "svc.example.com"}}
	if err := probe(t.Context(), target); err != nil {
		t.Error(err)
	}
	target.Check.Path = "/bad"
	if err := probe(t.Context(), target); err == nil || err.Error() != "status 500" {
		t.Errorf("got %v", err)
	}
	target.Check.Type = "tcp"
	if err := probe(t.Context(), target); err != nil {
		t.Error(err)
	}
	target.Port = 1
	if err := probe(t.Context(), target); err == nil {
		t.Error("nobody listens there")
	}
}
