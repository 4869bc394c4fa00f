package upstream

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// A connection may be over before the first call can begin on it: whoever opened it is told, and it is not kept.
func TestConnectionIsOverAtOnce(t *testing.T) {
	e := newEndpoint(place{entry: &configv1.Endpoint{Host: "127.0.0.1", Port: 1}}, slog.New(slog.DiscardHandler))
	e.set("s", config.Pool{}, &transport{http2: always})
	end := time.Now().Add(10 * time.Second)
	for met := false; !met; {
		if time.Now().After(end) {
			t.Fatal("no connection was over before its first call")
		}
		near, far := net.Pipe()
		_, _ = near.Close(), far.Close()
		e.mu.Lock()
		conn, err := e.share(near, e.how.Load())
		kept := len(e.sharing.conns)
		e.sharing.conns = nil
		e.mu.Unlock()
		switch {
		case err != nil:
			met = true
			if conn != nil || !errors.Is(err, ErrNotProcessed) || kept != 0 {
				t.Errorf("%v, %v, %d connections are kept", conn, err, kept)
			}
		case conn == nil || conn.Used():
			t.Fatalf("%v without an error", conn)
		}
	}
}
