package upstream

import (
	"log/slog"
	"net"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// A connection may be over before the first call can begin on it: it is not kept.
func TestConnectionIsOverAtOnce(t *testing.T) {
	e := newEndpoint(place{entry: &configv1.Endpoint{Host: "127.0.0.1", Port: 1}}, slog.New(slog.DiscardHandler), newDials())
	e.set("s", config.Pool{}, &transport{http2: always})
	end := time.Now().Add(10 * time.Second)
	for met := false; !met; {
		if time.Now().After(end) {
			t.Fatal("no connection was over before its first call")
		}
		near, far := net.Pipe()
		_, _ = near.Close(), far.Close()
		e.mu.Lock()
		usable := e.share(near, e.how.Load())
		kept := len(e.sharing.conns)
		e.sharing.conns = nil
		e.unlock()
		if met = !usable; usable != (kept == 1) {
			t.Errorf("usable: %t; %d connections are kept", usable, kept)
		}
	}
}
