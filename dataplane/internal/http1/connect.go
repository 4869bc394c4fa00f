package http1

import (
	"net"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

var errConnectBody = bad("CONNECT has a body")

// connectStart is how the head of a CONNECT begins.
const connectStart = "CONNECT "

// connects makes the message that of a CONNECT. What follows it is for the other end of the tunnel, and no request
// whatever the answer is: a body, which some would take for the tunnel's first bytes, is refused, and the connection
// carries nothing else afterwards.
func (m *message) connects() *refusal {
	if m.hasTE || m.length >= 0 {
		return errConnectBody
	}
	m.connect, m.close = true, true
	return nil
}

// TunnelConn is a connection to an endpoint that carries what a client and the endpoint say to each other once the
// client's CONNECT is answered. Nothing of HTTP is spoken on it.
type TunnelConn struct{ *ClientConn }

// NewTunnelConn takes a connection over.
func NewTunnelConn(nc net.Conn) TunnelConn {
	c := NewClientConn(nc, true)
	c.broken, c.tunnel = true, true
	return TunnelConn{c}
}

// Send sends nothing: that the connection is there is the answer (RFC 9110 section 9.3.6).
func (c TunnelConn) Send(
	x *exchange.Exchange, _ []byte, _ bool, _ time.Duration,
) (left []byte, started bool, err error) {
	c.body.start(0, false, false)
	res := &x.Response
	res.Status, res.Tunnel, res.ContentLength = 200, true, 0
	res.Header.Add("Date", time.Now().UTC().Format(dateFormat))
	return nil, true, nil
}
