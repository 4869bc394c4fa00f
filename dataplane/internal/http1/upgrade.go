package http1

import (
	"errors"
	"os"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// parseUpgrade sees whether a request, whose Connection names Upgrade, asks for other protocols (RFC 9110 section 7.8).
// Where that could be understood differently, it does not: in HTTP/1.0, with a body, which some would take for the
// first bytes of the other protocol, and with more than one Upgrade field.
func parseUpgrade(req *exchange.Request, m *message) {
	if m.http10 || m.hasTE || m.length > 0 || req.Method == "HEAD" {
		return
	}
	asked := ""
	fields := req.Header.Fields()
	for i := range fields {
		if fields[i].Known != exchange.Upgrade {
			continue
		}
		if asked != "" {
			return
		}
		asked = fields[i].Value
	}
	req.Upgrade = asked
}

func appendUpgrade(b []byte, protocol string) []byte {
	b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
	b = append(b, protocol...)
	return append(b, "\r\n"...)
}

func notSwitched(reason string) error {
	return &fault.Error{Code: fault.UpstreamInvalid, Reason: "the service's response is malformed: " + reason}
}

// switches takes a 101 in: the connection carries another protocol from here on, if that is the one that was asked for.
func (c *ClientConn) switches(x *exchange.Exchange, m *message) error {
	c.broken = true // for HTTP, in any case
	named := ""
	fields := x.Response.Header.Fields()
	for i := range fields {
		if fields[i].Known != exchange.Upgrade {
			continue
		}
		if named != "" {
			return notSwitched("101 with more than one Upgrade")
		}
		named = fields[i].Value
	}
	asked := x.Request.Upgrade
	switch {
	case asked == "":
		return notSwitched("it switches protocols, which was not asked for")
	case !m.upgrade || !exchange.EqualFold(named, asked):
		return notSwitched("it does not switch to the protocol that was asked for")
	case m.length > 0 || c.strict && (m.hasTE || m.length == 0) || m.http10: // nothing but the other protocol can follow (RFC 9110 section 15.2)
		return notSwitched("101 with a length, or in HTTP/1.0")
	}
	if exchange.EqualFold(asked, exchange.WebSocket) {
		key, _ := x.Request.WebSocketKey()
		if v, _ := x.Response.Header.Lookup("Sec-WebSocket-Accept"); v != exchange.WebSocketAccept(key) {
			return notSwitched("Sec-WebSocket-Accept does not answer the key")
		}
	}
	c.msg, c.tunnel = *m, true
	c.body.start(0, false, false)
	x.Response.Tunnel = true
	return nil
}

// Tunnel returns what follows a response that has gone over to another protocol.
func (c *ClientConn) Tunnel() exchange.Tunnel { return &tunnel{sock: c.sock} }

// Tunnel implements exchange.Downstream.
func (c *conn) Tunnel(x *exchange.Exchange) (exchange.Tunnel, error) {
	x.Responded = true
	c.req.close = true
	c.Watch(nil) // a side that is shut down is no end of a tunnel
	isWebSocket := exchange.EqualFold(x.Request.Upgrade, exchange.WebSocket)
	if isWebSocket { // a service that speaks HTTP/2 has none
		x.Response.Header.Del("Sec-WebSocket-Accept")
	}
	room := socket.Take(socket.HeadSize)
	b := appendStatusLine(room[:0], x.Response.Status, x.Response.Reason)
	b = appendFields(b, x.Response.Head, &x.Response.Header, skipResponse)
	if isWebSocket {
		key, _ := x.Request.WebSocketKey()
		b = appendField(b, "Sec-WebSocket-Accept", exchange.WebSocketAccept(key))
	}
	if x.Request.Upgrade != exchange.Connect {
		b = appendUpgrade(b, x.Request.Upgrade)
	}
	if x.ID != "" {
		b = appendField(b, "X-Request-Id", x.ID)
	}
	b = append(b, "\r\n"...)
	err := c.write(time.Now(), b, nil)
	socket.Give(room) // b may have grown out of it
	return &tunnel{sock: c.sock}, err
}

// tunnel is a connection that has gone over to another protocol.
type tunnel struct {
	sock *socket.Conn
	size socket.Size
}

var errCut = errors.New("the connection is cut")

// Receive implements exchange.Tunnel.
func (t *tunnel) Receive(within time.Duration) ([]byte, error) {
	if part := t.sock.Buffered(); len(part) > 0 { // it came with the head
		t.sock.Consume(len(part))
		return part, nil
	}
	t.sock.Release()
	t.sock.SetSize(t.size)
	for {
		begun := time.Now()
		t.sock.ReadWithin(begun, within)
		err := t.sock.Fill()
		switch {
		case err == nil:
			part := t.sock.Buffered()
			t.sock.Consume(len(part))
			t.size = socket.HeadSize
			if t.sock.Room() == 0 { // there is much to move
				t.size = socket.BodySize
			}
			return part, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		case t.sock.Aborted():
			return nil, errCut
		case time.Since(begun) >= within:
			return nil, err
		}
		t.sock.ResumeReads() // it was taken for an idle connection by a server that drains
	}
}

// Send implements exchange.Tunnel.
func (t *tunnel) Send(part []byte, within time.Duration) error {
	t.sock.WriteWithin(time.Now(), within)
	return t.sock.Write(part, nil)
}

// End implements exchange.Tunnel.
func (t *tunnel) End() error { return t.sock.CloseWrite() }

// Abort implements exchange.Tunnel.
func (t *tunnel) Abort() { t.sock.Abort() }

// nextPart waits for the next part of a request's body. That of a stream may come as late as the response does.
func (c *conn) nextPart() ([]byte, error) {
	lim := &c.server.limits
	within := lim.BodyTimeout
	for {
		if left := c.req.x.StreamLeft(); left > 0 {
			within = left
			c.req.body.pace.Least = 0 // nobody owes anything
		} else if c.req.x.Both() {
			c.req.body.pace.Least = 0
		}
		part, err := c.req.body.next(c.sock, &c.req.x.Request.Trailer, lim.MaxFields, within, c.req.x.Ends())
		if c.req.x.StreamIdle() > 0 {
			if err == nil {
				c.req.x.Moved()
			}
			if c.req.x.StreamLeft() > 0 && errors.Is(err, os.ErrDeadlineExceeded) && !c.req.cancelled.Load() &&
				!c.sock.Aborted() {
				continue
			}
		} else if c.req.x.Both() {
			switch {
			case err == nil:
				c.req.x.Moved()
			case err == errBodySlow: // of a wait that began before the response
				continue
			case errors.Is(err, os.ErrDeadlineExceeded) && !c.req.cancelled.Load() && !c.sock.Aborted():
				if within = c.req.x.PauseLeft(lim.BodyTimeout); within > 0 {
					continue
				}
			}
		}
		return part, err
	}
}
