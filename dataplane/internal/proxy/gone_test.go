package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/http1"
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
func thinking(t *testing.T, limits http1.Limits) (*thinker, *net.TCPConn) {
	t.Helper()
	s := &thinker{asked: make(chan struct{}, 1), gone: make(chan struct{}, 1), answer: make(chan struct{})}
	service := httptest.NewServer(s)
	t.Cleanup(service.Close)
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
	<-s.asked
	return s, c.(*net.TCPConn)
}

func TestClientThatGoesWhileItsServiceThinks(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn) error{
		"closes": (*net.TCPConn).Close,
		"resets": func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := thinking(t, http1.DefaultLimits())
			if err := leave(c); err != nil {
				t.Fatal(err)
			}
			select {
			case <-s.gone:
			case <-time.After(10 * time.Second):
				t.Error("the service still thinks")
				close(s.answer)
			}
		})
	}
}

func TestHalfClosedClientMayWait(t *testing.T) {
	limits := http1.DefaultLimits()
	limits.HalfClosed = true
	s, c := thinking(t, limits)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), waittest.Limit)
	defer cancel()
	select {
	case <-s.gone:
		t.Fatal("the request was broken off")
	case <-ctx.Done():
	}
	close(s.answer)
	if b, err := io.ReadAll(c); err != nil || len(b) == 0 {
		t.Errorf("%q, %v", b, err)
	}
}
