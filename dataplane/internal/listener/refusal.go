package listener

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/listener/proxyproto"
	"gateway.internal/dataplane/internal/telemetry"
)

// refuse turns a connection away.
func (l *Listener) refuse(nc net.Conn, peer *exchange.Peer, err error) {
	if errors.Is(err, proxyproto.ErrSilent) { // a proxy's check of whether anybody is here
		_ = nc.Close()
		return
	}
	reset(nc)
	l.set.Counters.Refused(reasonOf(err))
	l.refusals.tell(l.set.Log, l.ln.Addr(), peer.ClientText, err)
}

func reasonOf(err error) telemetry.Refusal {
	switch {
	case errors.Is(err, errTooMany):
		return telemetry.RefusedMaxConnections
	case errors.Is(err, errTooManyOfOwner):
		return telemetry.RefusedMaxConnectionsPerClient
	}
	return telemetry.RefusedProxyProtocol
}

// reset closes a connection at once: neither side keeps anything of it.
func reset(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	_ = nc.Close()
}

// tellEvery is how often connections that were turned away are logged at most.
const tellEvery = 10 * time.Second

// refusals logs some of the connections that are turned away. The zero value is ready.
type refusals struct {
	mu     sync.Mutex
	told   time.Time
	untold int
}

func (r *refusals) tell(log *slog.Logger, at net.Addr, client string, err error) {
	now := time.Now()
	r.mu.Lock()
	if now.Sub(r.told) < tellEvery {
		r.untold++
		r.mu.Unlock()
		return
	}
	untold := r.untold
	r.told, r.untold = now, 0
	r.mu.Unlock()
	log.Warn("connection refused", "address", at.String(), "client", client, "error", err.Error(), "others_before", untold)
}
