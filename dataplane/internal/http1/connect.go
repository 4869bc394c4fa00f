package http1

import (
	"bytes"
	"net"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
)

var (
	errConnect     = &refusal{Code: fault.NotImplemented, Reason: "CONNECT is not supported in HTTP/1.0"}
	errAuthority   = bad("the target of CONNECT is not a host and a port from 1 to 65535")
	errConnectBody = bad("CONNECT has a body")
)

// connectStart is how the head of a CONNECT begins.
const connectStart = "CONNECT "

// parseConnect reads the target of a CONNECT: a host and a port and nothing else (RFC 9112 section 3.2.3, RFC 9113
// section 8.5). It has no path.
func parseConnect(target []byte, req *exchange.Request) *refusal {
	switch {
	case req.Version == exchange.HTTP10:
		return errConnect // it knows no such method
	case bytes.IndexByte(target, '@') >= 0:
		return errUserinfo
	case !validAuthority(target):
		return errAuthority
	}
	req.Host, req.Upgrade, req.ContentLength = view(target), exchange.Connect, 0
	return nil
}

// validAuthority reports whether b is host ":" port. Other than in Host, the port has to be there, and to be one (RFC
// 9110 section 9.3.6).
func validAuthority(b []byte) bool {
	colon := bytes.LastIndexByte(b, ':')
	if colon < 0 || !validHost(b) {
		return false
	}
	port := b[colon+1:]
	if len(port) == 0 || len(port) > 5 || port[0] == '0' || !allOf(port, classDigit) {
		return false
	}
	n := 0
	for _, c := range port {
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

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

// Opened is a connection to an endpoint that carries what a client and the endpoint say to each other once the client's
// CONNECT is answered. Nothing of HTTP is spoken on it.
type Opened struct{ *ClientConn }

// NewOpened takes a connection over.
func NewOpened(nc net.Conn) Opened {
	c := NewClientConn(nc, true)
	c.broken, c.tunnel = true, true
	return Opened{c}
}

// Send sends nothing: that the connection is there is the answer (RFC 9110 section 9.3.6).
func (c Opened) Send(x *exchange.Exchange, _ []byte, _ bool, _ time.Duration) (left []byte, started bool, err error) {
	c.body.start(0, false, false)
	res := &x.Response
	res.Status, res.Tunnel, res.ContentLength = 200, true, 0
	res.Header.Add("Date", time.Now().UTC().Format(dateFormat))
	return nil, true, nil
}
