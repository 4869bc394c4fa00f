package http1

import (
	"errors"
	"time"

	"gateway.internal/shared/fault"
)

// A defect of the codec's own ends the connection on which it happens: nobody knows the state of that. What an exchange
// calls of its connection is the exchange's, and the proxy recovers; here is what happens between exchanges, and
// while a head is read. Where a request has come and nothing was answered, the client gets 500.

var errDefect = errors.New("the gateway has failed")

// lastWords are what a client gets where no response can be made.
const lastWords = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

// rescue is deferred by whatever works on the connection in a goroutine, as its owner.
func (c *conn) rescue() {
	if v := recover(); v != nil {
		c.defect(v)
		c.breakDown()
	}
}

// rescueInLoop is rescue on a loop's goroutine, where nothing may wait.
func (c *conn) rescueInLoop() {
	if v := recover(); v != nil {
		c.defect(v)
		go func() {
			c.Leave()
			c.breakDown()
		}()
	}
}

// rescueReceive is deferred by Receive. Serve ends the connection.
func (c *conn) rescueReceive() {
	if v := recover(); v != nil {
		c.defect(v)
		c.place.arrival.got, c.place.arrival.err = false, errDefect
	}
}

// defect tells of a panic, once; where nobody wants to know, it goes on.
func (c *conn) defect(v any) {
	if c.server.panicked == nil {
		panic(v)
	}
	route := ""
	if c.req.x != nil {
		route = c.req.x.Route
	}
	c.server.panicked("a connection over HTTP/1", route, v)
}

// breakDown ends the connection after a panic.
func (c *conn) breakDown() {
	answered := c.answerDefect()
	defer func() {
		if v := recover(); v != nil { // it has been told of: what is broken is what would have to clean up
			_ = c.sock.Close()
		}
		if !c.left {
			c.http2 = false
			c.leave()
		}
	}()
	c.ended = true
	c.req.refused = c.req.refused || answered // it may still be sending
	c.end()
}

// answerDefect sends 500 where a request has come, or its beginning, that nothing was answered to. It reports whether
// the client has got that.
func (c *conn) answerDefect() (answered bool) {
	x := c.req.x
	if c.left || x != nil && x.Responded || x == nil && len(c.sock.Buffered()) == 0 {
		return false
	}
	if x != nil { // nobody knows its state: it is not used again
		c.req.x = nil
		ExchangesInUse.Add(-1)
	}
	defer func() {
		if v := recover(); v != nil {
			answered = c.sayLastWords()
		}
	}()
	c.refuseHead(&refusal{Code: fault.Internal, Reason: "the gateway has failed"})
	return true
}

// sayLastWords is answerDefect where even that panics.
func (c *conn) sayLastWords() (said bool) {
	defer func() {
		if v := recover(); v != nil {
			said = false
		}
	}()
	if x := c.req.x; x != nil && x.Responded {
		return false
	}
	c.sock.WriteWithin(time.Now(), c.server.limits.WriteTimeout)
	return c.sock.Write([]byte(lastWords), nil) == nil
}
