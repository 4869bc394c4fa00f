package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// thinker is a service that answers when it is told to, or when its caller has gone.
type thinker struct {
	asked, gone chan struct{}
	answer      chan struct{}
}

func (s *thinker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked <- struct{}{}
	select {
	case <-r.Context().Done():
		s.gone <- struct{}{}
	case <-s.answer:
		_, _ = io.WriteString(w, "thought")
	}
}

// thinking starts a gateway before a thinker, and asks it.
func thinking(t *testing.T, limits codec.Limits) (*thinker, *net.TCPConn) {
	t.Helper()
	s := &thinker{asked: make(chan struct{}, 1), gone: make(chan struct{}, 1), answer: make(chan struct{})}
	service := httptest.NewServer(s)
	t.Cleanup(func() {
		close(s.answer)
		service.Close()
	})
	host, port, _ := net.SplitHostPort(service.Listener.Addr().String())
	config := fmt.Sprintf("services:\n  - {name: s, endpoints: [{host: %s, port: %s}]}\nroutes:\n  - {name: r, path: /*, service_id: s}\n", host, port)
	g := startWith(t, limits, config)
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	waittest.Receive(t, "the service is asked", s.asked)
	return s, c.(*net.TCPConn)
}

func TestClientThatGoesWhileItsServiceThinks(t *testing.T) {
	lookOften(t)
	for name, leave := range map[string]func(*net.TCPConn) error{
		"closes": (*net.TCPConn).Close,
		"resets": func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := thinking(t, codec.DefaultLimits())
			if err := leave(c); err != nil {
				t.Fatal(err)
			}
			waittest.Receive(t, "the service is told that its client has gone", s.gone)
		})
	}
}

// A client that has shut its side down may wait where that is allowed: longer than one that has done so later where it
// is not.
func TestHalfClosedClientMayWait(t *testing.T) {
	limits := codec.DefaultLimits()
	strict, later := thinking(t, limits)
	limits.HalfClosed = true
	s, c := thinking(t, limits)
	for _, client := range []*net.TCPConn{c, later} {
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	waittest.Receive(t, "the service of the other node is told that its client has gone", strict.gone)
	select {
	case <-s.gone:
		t.Fatal("the request was broken off")
	case s.answer <- struct{}{}:
	}
	if b, err := io.ReadAll(c); err != nil || len(b) == 0 {
		t.Errorf("%q, %v", b, err)
	}
}
