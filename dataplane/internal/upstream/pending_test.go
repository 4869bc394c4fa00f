package upstream

import (
	"log/slog"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// crowded returns an endpoint for which many requests wait, each for the connection that is being opened for it, as
// where an address answers nothing.
func crowded(t *testing.T, n int) (*Endpoint, *connSettings) {
	t.Helper()
	dials := newDials()
	at := resolvedEndpoint{entry: &configv1.Endpoint{Host: "127.0.0.1", Port: 1}}
	e := newEndpoint(at, slog.New(slog.DiscardHandler), dials)
	e.set("s", config.Pool{MaxConnections: n, MaxPending: 10, ConnectTimeout: time.Minute}, &transport{})
	e.open = n
	for range n {
		p := &pending{done: make(chan struct{}, 1)}
		e.queue.push(p)
		e.queue.opens(p)
	}
	return e, e.settings.Load()
}

// While a connection that speaks HTTP/2 is being opened, no more wait than those that are opened will carry, and
// max_pending besides.
func TestWaitersForSharedConnections(t *testing.T) {
	for _, c := range []struct{ connections, want int }{{1, 110}, {2, 210}, {0, 410}} {
		nowhere := resolvedEndpoint{entry: &configv1.Endpoint{Host: "127.0.0.1", Port: 1}}
		e := newEndpoint(nowhere, slog.New(slog.DiscardHandler), newDials())
		pool := config.Pool{MaxConnections: c.connections, MaxPending: 10, ConnectTimeout: time.Minute}
		e.set("s", pool, &transport{http2: always})
		e.multiplexed.opening = true // and answers nothing
		waiting := 0
		for e.enqueue(e.settings.Load(), &pending{done: make(chan struct{}, 1)}) == nil && waiting < 1000 {
			waiting++
		}
		if refused := e.queue.refused.Load(); waiting != c.want || refused != 1 {
			t.Errorf("%d connections at most: %d wait, %d are refused; want %d, and 1", c.connections, waiting, refused, c.want)
		}
	}
}

// One more request that has to wait costs about the same whether one or ten thousand wait already for connections that
// are being opened, and so does the end of one: while an address answers nothing, requests come as ever.
func TestManyWaitForConnections(t *testing.T) {
	least := func(n int) time.Duration {
		e, settings := crowded(t, n)
		best := time.Hour
		for range 50 {
			p := &pending{done: make(chan struct{}, 1)}
			begun := time.Now()
			if err := e.enqueue(settings, p); err != nil {
				t.Fatal(err)
			}
			e.mu.Lock()
			e.queue.opens(p)
			e.serve()
			e.mu.Unlock()
			best = min(best, time.Since(begun))
			e.mu.Lock()
			e.queue.remove(p)
			e.mu.Unlock()
		}
		if idle, all := e.queue.waiting(), int(e.queue.len.Load()); idle != 0 || all != n {
			t.Errorf("%d wait, %d of them for what others have, instead of %d and none", all, idle, n)
		}
		return best
	}
	one, many := least(1), least(10_000)
	t.Logf("%s where one waits, %s where 10,000 do", one, many)
	if many > 40*one {
		t.Errorf("%s where one waits, %s where 10,000 do", one, many)
	}
}
