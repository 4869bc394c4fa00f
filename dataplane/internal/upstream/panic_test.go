package upstream

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// noRandom panics where a handshake begins.
type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { panic("in a test") }

// TestPanicsOfDials sees that a panic while a connection is opened ends that alone, is told of once, and that what
// waits for the connection hears of it.
func TestPanicsOfDials(t *testing.T) {
	for name, kind := range map[string]mode{"HTTP/1": never, "HTTP/2": always} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			var told []any
			dials := newDials()
			dials.panicked = func(_, _ string, v any) { told = append(told, v) }
			at := ln.Addr().(*net.TCPAddr)
			entry := &configv1.Endpoint{Host: "127.0.0.1", Port: uint32(at.Port)}
			e := newEndpoint(resolvedEndpoint{entry: entry}, slog.New(slog.DiscardHandler), dials)
			broken := &tls.Config{InsecureSkipVerify: true, Rand: noRandom{}}
			pool := config.Pool{MaxConnections: 1, MaxPending: 10, ConnectTimeout: waittest.Limit}
			e.set("s", pool, &transport{http2: kind, tls: broken})
			p := &pending{done: make(chan struct{}, 1)}
			if err := e.enqueue(e.settings.Load(), p); err != nil {
				t.Fatal(err)
			}
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(waittest.Deadline())
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("the connection is not closed: %v", err)
			}
			_ = c.Close()
			waittest.Receive(t, "the request that waits is told", p.done)
			dials.end()
			e.mu.Lock()
			defer e.unlock()
			if !errors.Is(p.err, errDefect) || len(told) != 1 || e.open != 0 || e.multiplexed.opening {
				t.Errorf("the request got %v; %d panics were told; %d connections are counted", p.err, len(told), e.open)
			}
		})
	}
}
