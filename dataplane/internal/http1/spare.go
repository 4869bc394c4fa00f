package http1

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// spareExchanges is how many exchanges a loop has at hand for its connections' next requests, at most.
const spareExchanges = 32

// loopSpare is what this package keeps in a loop's Spare.
type loopSpare struct {
	exchanges [spareExchanges]*exchange.Exchange
	n         int
}

// spare returns what the connection's loop has at hand; nil: the caller is no loop.
func (c *conn) spare() *socket.Spare {
	if c.place.state.Load() == inGoroutine {
		return nil
	}
	return c.place.loop.Spare()
}

// takeRoom returns a buffer for a response's head and its first part, and giveRoom takes it back.
func (c *conn) takeRoom() []byte {
	if s := c.spare(); s != nil {
		return s.Take(socket.HeadSize)
	}
	return socket.Take(socket.HeadSize)
}

func (c *conn) giveRoom(b []byte) {
	if s := c.spare(); s != nil {
		s.Give(b)
		return
	}
	socket.Give(b)
}

// takeExchange returns an exchange for the connection's next request, and giveExchange takes it back.
func (c *conn) takeExchange() *exchange.Exchange {
	if s := c.spare(); s != nil {
		if l, _ := s.Local.(*loopSpare); l != nil && l.n > 0 {
			l.n--
			ExchangesInUse.Add(1)
			return l.exchanges[l.n]
		}
	}
	return takeExchange()
}

func (c *conn) giveExchange(x *exchange.Exchange) {
	s := c.spare()
	if s == nil {
		giveExchange(x)
		return
	}
	l, _ := s.Local.(*loopSpare)
	if l == nil {
		l = &loopSpare{}
		s.Local = l
	}
	if l.n == spareExchanges {
		giveExchange(x)
		return
	}
	x.Reset()
	l.exchanges[l.n] = x
	l.n++
	ExchangesInUse.Add(-1)
}
