package attempt

import (
	"errors"
	"io"
	"os"
	"time"

	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// Stream sends the response and returns how many bytes of body it had.
func (a *Attempts) Stream() int64 {
	x := a.Exchange
	a.beginBoth()
	first := a.ResponsePart()
	part, whole, err := first.Bytes, first.Whole, first.Err
	if whole {
		a.complete()
		a.settle() // so that the client is told with the head when the rest of its body is not going to be read
	}
	if err == nil {
		if x.RPC != exchange.NoRPC && !whole && x.Response.RPC() != exchange.NoRPC {
			x.Response.ContentLength = -1 // a status may have to be added, see endCall
		}
		err = x.Down.WriteHead(x, part, whole)
		if x.RPC != exchange.NoRPC {
			a.form = x.Response.RPC() // its fields are gone once more is read
		}
	} else {
		if x.RPC == exchange.NoRPC {
			_ = a.stopUpload()
		} else if own := a.refused(); own != nil {
			err = own
		}
		a.cutOff(err)
		a.fail(err)
		return WriteLocal(x, a.Pages)
	}
	sent := int64(len(part))
	if err == nil && !whole && !a.both {
		moved, ofClient, moveErr := a.Conn.MoveBody(x, a.Timeout)
		sent += moved
		if ofClient {
			err = moveErr
		} else if moveErr != nil {
			return a.breakOff(moveErr, sent)
		}
	}
	for err == nil && !whole {
		part, err = a.nextPart()
		switch {
		case err == io.EOF:
			whole = true
			a.complete()
			err = x.Down.WriteBody(x, nil, true)
		case err != nil:
			return a.breakOff(err, sent)
		default:
			sent += int64(len(part))
			last := a.Conn.BodyOver()
			if last {
				a.complete()
			}
			if err = x.Down.WriteBody(x, part, last); last {
				whole = true
			}
		}
	}
	if err != nil {
		var own *fault.Error
		if x.Response.Code = fault.ClientClosed; errors.As(err, &own) {
			x.Response.Code = own.Code
		}
		x.Down.Abort()
	}
	return sent
}

// breakOff ends a response that the service did not complete.
func (a *Attempts) breakOff(err error, sent int64) int64 {
	a.cutOff(err)
	res := &a.Exchange.Response
	res.Code = fault.UpstreamUnavailable
	switch {
	case a.Exchange.Down.Gone():
		res.Code = fault.ClientClosed
	case errors.Is(err, os.ErrDeadlineExceeded), a.late():
		res.Code = fault.UpstreamTimeout
	}
	if !a.endCall("the service broke off, or the time was over, before the response was complete") {
		a.Exchange.Down.Abort()
	}
	return sent
}

// BeginStream makes the exchange a stream where its response is one: it then goes on for as long as something moves.
func (a *Attempts) BeginStream(limits *config.Limits) {
	x := a.Exchange
	res := &x.Response
	if res.ContentLength >= 0 || limits.StreamIdle == 0 && !isEventStream(res) {
		return
	}
	a.Timeout = limits.StreamIdleOr()
	a.streams = true
	if x.RPC == exchange.NoRPC {
		a.Tell()
		x.BeginStream(a.Timeout)
	} else { // it has been one from its beginning
		x.Moved()
	}
}

// BeginCall makes a call of gRPC a stream before there is a response, where the policy says how long nothing may move:
// either side may wait for the other one's first message, and many services send no head before theirs.
func (a *Attempts) BeginCall(limits *config.Limits) {
	if a.Exchange.RPC != exchange.NoRPC {
		a.Exchange.BeginCall(limits.StreamIdle) // 0: it is none
	}
}

// isEventStream reports whether a response is one of server-sent events.
func isEventStream(res *exchange.Response) bool {
	const eventStream = "text/event-stream"
	v, _ := res.Header.Known(exchange.ContentType)
	return len(v) >= len(eventStream) && exchange.EqualFold(v[:len(eventStream)], eventStream) &&
		(len(v) == len(eventStream) || v[len(eventStream)] == ';' || v[len(eventStream)] == ' ')
}

// beginBoth makes either direction wait for as long as the other one moves, where the response has begun before the
// request has ended.
func (a *Attempts) beginBoth() {
	if a.both = a.uploading(); a.both {
		a.Exchange.BeginBoth()
	}
}

// nextPart waits for the next part of the response. There may be none for as long as the request's body goes on.
func (a *Attempts) nextPart() ([]byte, error) {
	for wait := a.Timeout; ; {
		begun := time.Now()
		part, err := a.Conn.NextBody(a.Exchange, wait)
		stream := a.streams && a.Exchange.StreamIdle() != 0
		if !stream && !a.both {
			return part, err
		}
		if err == nil {
			a.Exchange.Moved()
			return part, nil
		}
		left := a.Exchange.StreamLeft()
		if !stream && a.uploading() {
			left = a.Exchange.PauseLeft(a.Timeout)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || left <= 0 || time.Since(begun) < wait { // broken off, if it took less
			return part, err
		}
		wait = left
	}
}

// opensTunnel reports whether the client would take a response for the beginning of the other protocol although it is
// not: over HTTP/2 every 2xx is one (RFC 8441 section 5), and so is every 2xx that answers a CONNECT (RFC 9110 section
// 9.3.6).
func opensTunnel(x *exchange.Exchange) bool {
	return x.Request.Upgrade != "" && (x.Request.Version == exchange.HTTP2 || x.Request.Upgrade == exchange.Connect) && !x.Response.Tunnel && x.Response.Status/100 == 2
}

// Agreed reports whether the response is one that the client can have; otherwise one of the gateway's own takes its
// place.
func (a *Attempts) Agreed() bool {
	if !opensTunnel(a.Exchange) {
		return true
	}
	a.Exchange.Fail(fault.UpstreamInvalid, "the service does not speak "+a.Exchange.Request.Upgrade)
	return false
}

// WriteLocal sends a response of the gateway's own and returns its body's size.
func WriteLocal(x *exchange.Exchange, pages *errorpage.Pages) int64 {
	if opensTunnel(x) {
		x.Fail(fault.NotImplemented, "this route does not speak "+x.Request.Upgrade)
	}
	pages.Apply(x)
	_ = x.Down.WriteHead(x, x.Response.Body, true)
	return int64(len(x.Response.Body))
}
