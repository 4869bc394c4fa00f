package upstream

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/http2"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// A connection may be over before the first stream can begin on it: it is not kept.
func TestConnectionIsOverAtOnce(t *testing.T) {
	at := resolvedEndpoint{entry: &configv1.Endpoint{Host: "127.0.0.1", Port: 1}}
	e := newEndpoint(at, slog.New(slog.DiscardHandler), newDials())
	e.set("s", config.Pool{}, &transport{http2: always})
	end := time.Now().Add(10 * time.Second)
	for met := false; !met; {
		if time.Now().After(end) {
			t.Fatal("no connection was over before its first stream")
		}
		near, far := net.Pipe()
		_, _ = near.Close(), far.Close()
		e.mu.Lock()
		usable := e.addMultiplexed(near, e.settings.Load())
		kept := len(e.multiplexed.conns)
		e.multiplexed.conns = nil
		e.unlock()
		if met = !usable; usable != (kept == 1) {
			t.Errorf("usable: %t; %d connections are kept", usable, kept)
		}
	}
}

// Calls go to the connection that carries the fewest.
func TestCallsGoToTheLeastLoaded(t *testing.T) {
	var s multiplexed
	over := &transport{http2: always}
	for range 3 {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		c := http2.NewClientConn(near, "http", false, nil, nil)
		t.Cleanup(func() {
			c.Close()
			_ = far.Close()
		})
		s.conns = append(s.conns, multiplexedConn{ClientConn: c, transport: over})
	}
	var streams []*http2.ClientStream
	begin := func(n int) {
		for range n {
			streams = append(streams, s.begin(over, anyLoad, false).(*http2.ClientStream))
		}
	}
	loads := func() (n [3]int) {
		for i, c := range s.conns {
			n[i], _ = c.Load(false)
		}
		return n
	}
	begin(9)
	if n := loads(); n != [3]int{3, 3, 3} {
		t.Errorf("9 streams are on the connections as %v", n)
	}
	for i, c := range streams { // each third is on the same
		if i%3 == 1 {
			c.Release(time.Now())
		}
	}
	begin(2)
	if n := loads(); n != [3]int{3, 2, 3} {
		t.Errorf("once one is empty, 2 more streams are on the connections as %v", n)
	}
	for i, c := range streams {
		if i >= 9 || i%3 != 1 {
			c.Release(time.Now())
		}
	}
}
