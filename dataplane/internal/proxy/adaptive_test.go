package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// TestAdaptiveLimit has as many requests be under way as the limit allows: others are refused until one is over.
func TestAdaptiveLimit(t *testing.T) {
	for _, kind := range []string{"window", "hystrix"} {
		t.Run(kind, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				arrived, release := make(chan struct{}, 1), make(chan struct{})
				s := trouble(t, version, protocol, "timeout: 1h", func(n int32, _ string, w http.ResponseWriter, r *http.Request) {
					if n == 1 {
						arrived <- struct{}{}
						select {
						case <-release:
						case <-r.Context().Done():
						}
					}
					_, _ = io.WriteString(w, "good")
				})
				s.apply(withCircuit(s.config, "type: "+kind+", adaptive: {max_limit: 1}"))
				circuit := s.services.Get(s.serviceID()).Circuit()
				got := make(chan string, 1)
				go func() { got <- s.ask("GET", "/", nil) }()
				waittest.Receive(t, "the first request", arrived)
				if text := s.ask("GET", "/", nil); !strings.HasPrefix(text, "503 ") || !strings.Contains(text, "CIRCUIT_OPEN") {
					t.Errorf("beside it another one got %q", text)
				}
				if is := circuit.Status(time.Now()); is.Limit != 1 || is.Concurrent != 1 || is.Rejected != 1 {
					t.Errorf("the circuit shows %+v", is)
				}
				close(release)
				if text := waittest.Receive(t, "its response", got); text != "200 good" {
					t.Errorf("it got %q", text)
				}
				waittest.Until(t, "its place is free", func() bool { return circuit.Status(time.Now()).Concurrent == 0 })
				if text := s.ask("GET", "/", nil); text != "200 good" {
					t.Errorf("after it another one got %q", text)
				}
			})
		})
	}
}
