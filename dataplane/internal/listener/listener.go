// Package listener accepts connections and gives each a goroutine of its own. It knows how to stop accepting without
// refusing what has been accepted.
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/telemetry"
)

// Listener serves one address.
type Listener struct {
	log      *slog.Logger
	ln       net.Listener
	server   *http1.Server
	counters *telemetry.Registry
	wg       sync.WaitGroup
}

// Listen opens an address such as ":8080".
func Listen(log *slog.Logger, address string, server *http1.Server, counters *telemetry.Registry) (*Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}}
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for proxied traffic: %w", err)
	}
	return &Listener{log: log, ln: ln, server: server, counters: counters}, nil
}

// Addr returns the address in use.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Serve accepts connections until Close. When the process has no descriptors left it waits for some to be free again.
func (l *Listener) Serve() {
	wait := time.Duration(0)
	for {
		nc, err := l.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			l.log.Error("accept failed", "address", l.ln.Addr().String(), "error", err.Error(), "retry_in", wait.String())
			time.Sleep(wait)
			continue
		}
		wait = 0
		l.counters.Connections(1)
		l.wg.Go(func() {
			defer l.counters.Connections(-1)
			l.server.Serve(nc, "http")
		})
	}
}

// Close stops accepting. Connections that have been accepted are not touched.
func (l *Listener) Close() { _ = l.ln.Close() }

// Wait returns when no connection is left.
func (l *Listener) Wait() { l.wg.Wait() }
