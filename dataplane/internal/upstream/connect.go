package upstream

import (
	"time"

	"gateway.internal/dataplane/internal/http1"
)

// Open opens a connection for a tunnel: it carries what the client sends, whatever the service's protocol says but whether there is TLS. It
// counts among the endpoint's connections, and an idle one makes room for it where there may be no more.
func (e *Endpoint) Open(deadline time.Time) (Conn, error) {
	how := e.how.Load()
	e.mu.Lock()
	var idle *conn1
	if limit := how.pool.MaxConnections; limit == 0 || e.open < limit {
		e.open++
	} else if idle = e.idle.oldest(); idle == nil {
		e.mu.Unlock()
		return nil, ErrTooManyConnections
	}
	e.mu.Unlock()
	if idle != nil {
		idle.Close()
	}
	nc, err := e.dial(how.bare(), deadline)
	if err != nil {
		e.lost()
		return nil, err
	}
	return http1.NewOpened(nc), nil
}

// bare returns how connections are opened on which no HTTP is spoken: without ALPN, which would promise it.
func (h *how) bare() *how {
	bare := &how{service: h.service, pool: h.pool, transport: &transport{http2: never}}
	if h.tls != nil {
		bare.tls = h.tls.Clone()
		bare.tls.NextProtos = nil
	}
	return bare
}
