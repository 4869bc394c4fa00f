package upstream

import "gateway.internal/dataplane/internal/exchange"

// Open opens a connection for a tunnel: it carries what the client sends, whatever the service's protocol says but
// whether there is TLS. It counts among the endpoint's connections, and an idle one makes room for it where there may
// be no more. It waits as Acquire does.
func (e *Endpoint) Open(x *exchange.Exchange) (Conn, error) {
	return e.wait(x, e.settings.Load(), tunnelConn)
}

// forTunnel returns how connections are opened on which no HTTP is spoken: without ALPN, which would promise it.
func (h *connSettings) forTunnel() *connSettings {
	tunnel := &connSettings{service: h.service, pool: h.pool, transport: &transport{http2: never}}
	if h.tls != nil {
		tunnel.tls = h.tls.Clone()
		tunnel.tls.NextProtos = nil
	}
	return tunnel
}
