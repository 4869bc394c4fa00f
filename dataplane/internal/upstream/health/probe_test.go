package health

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

func at(t *testing.T, address string, c config.HealthCheck) Target {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return Target{ServiceID: "s", Host: host, Port: uint32(n), State: &balance.State{}, Check: c}
}

func TestRealChecks(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			if r.Host != "svc.example.com" {
				w.WriteHeader(http.StatusMisdirectedRequest)
			}
		case "/moved":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case "/slow":
			<-release
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	defer close(release)
	closed := httptest.NewServer(nil)
	gone := closed.Listener.Addr().String()
	closed.Close()
	probe := newProbe()
	for _, c := range []struct {
		what, address, kind, path, want string
	}{
		{"the host that was asked for", server.Listener.Addr().String(), "http", "/ok", ""},
		{"a status that does not pass", server.Listener.Addr().String(), "http", "/bad", "status 500"},
		{"a redirect is an answer, and not followed", server.Listener.Addr().String(), "http", "/moved", ""},
		{"a body without an end", server.Listener.Addr().String(), "http", "/endless", ""},
		{"no answer in time", server.Listener.Addr().String(), "http", "/slow", "no answer within 100ms"},
		{"a connection", server.Listener.Addr().String(), "tcp", "", ""},
		{"nobody listens, http", gone, "http", "/ok", "dial tcp " + gone + ": connect: connection refused"},
		{"nobody listens, tcp", gone, "tcp", "", "dial tcp " + gone + ": connect: connection refused"},
	} {
		target := at(t, c.address, config.HealthCheck{Type: c.kind, Path: c.path, Host: "svc.example.com", Timeout: waittest.Limit})
		if c.path == "/slow" {
			target.Check.Timeout = 100 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), target.Check.Timeout)
		err := probe(ctx, target)
		cancel()
		if got := errorText(err); got != c.want {
			t.Errorf("%s: %q instead of %q", c.what, got, c.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestLoopback follows a real server that fails and recovers.
func TestLoopback(t *testing.T) {
	var broken atomic.Bool
	answered := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		answered <- struct{}{}
	}))
	defer server.Close()
	c := NewChecker(slog.New(slog.DiscardHandler), nil)
	defer c.Close()
	target := at(t, server.Listener.Addr().String(), config.HealthCheck{Type: "http", Path: "/",
		Interval: 5 * time.Millisecond, UnhealthyInterval: 5 * time.Millisecond, Timeout: waittest.Limit, Unhealthy: 2,
		Healthy: 2})
	c.Set([]Target{target})
	for _, want := range []bool{true, false, true} {
		broken.Store(!want)
		for target.State.Healthy() != want {
			waittest.Receive(t, fmt.Sprintf("a check, after which healthy may be %v", want), answered)
		}
		waittest.Receive(t, "a check", answered)
	}
	if r := verdicts(c, false); len(r) != 1 || r[0].GetCheckedAt() == nil {
		t.Errorf("report %v", r)
	}
}
