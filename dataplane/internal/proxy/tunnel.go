package proxy

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// tunnel carries another protocol's bytes between the two ends of an exchange, whatever each of them is. Each direction has a goroutine, which
// receives only when what came before has been sent: a slow peer holds up the other one, and nothing piles up here.
type tunnel struct {
	x    *exchange.Exchange
	over atomic.Bool // one direction has failed, and has broken the other one off
	ends [2]exchange.Tunnel
	up   int64 // bytes from the client, once that direction is over
}

// errIdle is of a tunnel in which nothing moved for too long.
var errIdle = errors.New("nothing went in either direction for too long")

// tunnel sends the response's head and carries bytes until both sides are through, one of them fails, or nothing moves for idle. The policy's
// timeout ends with the head.
func (p *Proxy) tunnel(a *attempt, idle time.Duration, done *telemetry.Done) {
	x := a.x
	near, err := x.Down.Tunnel(x)
	if err != nil {
		x.Response.Code = fault.ClientClosed
		a.conn.Abort()
		x.Down.Abort()
		return
	}
	p.upgrades.Begin()
	defer p.upgrades.End()
	x.Own()
	x.BeginStream(idle)
	t := &tunnel{x: x, ends: [2]exchange.Tunnel{near, a.conn.Tunnel()}}
	up := make(chan error)
	go func() {
		var err error
		t.up, err = t.carry(t.ends[0], t.ends[1], idle)
		up <- err
	}()
	var down error
	done.ResponseBytes, down = t.carry(t.ends[1], t.ends[0], idle)
	err = <-up
	done.RequestBytes = t.up
	if err == nil && down == nil {
		return
	}
	x.Response.Code = fault.UpstreamUnavailable
	switch {
	case errors.Is(err, errIdle), errors.Is(down, errIdle):
		x.Response.Code = fault.UpstreamTimeout
	case x.Down.Gone(), err != nil && !errors.Is(err, errOther):
		x.Response.Code = fault.ClientClosed
	}
	x.Down.Abort()
}

// errOther is of a direction that ended because the other one had failed.
var errOther = errors.New("the other direction has failed")

// carry carries one direction, to its end or until something fails, which ends both.
func (t *tunnel) carry(from, to exchange.Tunnel, idle time.Duration) (moved int64, err error) {
	moved, err = t.copy(from, to, idle)
	if err == nil {
		return moved, nil
	}
	if !t.over.CompareAndSwap(false, true) {
		return moved, errOther
	}
	t.ends[0].Abort()
	t.ends[1].Abort()
	return moved, err
}

func (t *tunnel) copy(from, to exchange.Tunnel, idle time.Duration) (moved int64, err error) {
	for wait := idle; ; {
		part, err := from.Receive(wait)
		switch {
		case err == io.EOF:
			t.x.Moved()
			return moved, to.End()
		case errors.Is(err, os.ErrDeadlineExceeded) && !t.over.Load():
			if wait = t.x.StreamLeft(); wait <= 0 {
				return moved, errIdle
			}
			continue
		case err != nil:
			return moved, err
		}
		t.x.Moved()
		if err := to.Send(part, idle); err != nil {
			return moved, err
		}
		t.x.Moved()
		moved += int64(len(part))
		wait = idle
	}
}

// beginStream makes the exchange a stream where its response is one: it then goes on for as long as something moves.
func (a *attempt) beginStream(limits *config.Limits) {
	x := a.x
	res := &x.Response
	if res.ContentLength >= 0 || limits.StreamIdle == 0 && !isEventStream(res) {
		return
	}
	a.timeout = limits.StreamIdleOr()
	a.streams = true
	if x.RPC == exchange.NoRPC {
		x.BeginStream(a.timeout)
	} else { // it has been one from its beginning
		x.Moved()
	}
}

// beginCall makes a call of gRPC a stream before there is a response, where the policy says how long nothing may move: either side may wait
// for the other one's first message, and many services send no head before theirs.
func (a *attempt) beginCall(limits *config.Limits) {
	if a.x.RPC != exchange.NoRPC {
		a.x.BeginCall(limits.StreamIdle) // 0: it is none
	}
}

// isEventStream reports whether a response is one of server-sent events.
func isEventStream(res *exchange.Response) bool {
	const eventStream = "text/event-stream"
	v, _ := res.Header.Known(exchange.ContentType)
	return len(v) >= len(eventStream) && exchange.EqualFold(v[:len(eventStream)], eventStream) &&
		(len(v) == len(eventStream) || v[len(eventStream)] == ';' || v[len(eventStream)] == ' ')
}

// beginBoth makes either direction wait for as long as the other one moves, where the response has begun before the request has ended.
func (a *attempt) beginBoth() {
	if a.both = a.uploading(); a.both {
		a.x.BeginBoth()
	}
}

// nextPart waits for the next part of the response. There may be none for as long as the request's body goes on.
func (a *attempt) nextPart() ([]byte, error) {
	for wait := a.timeout; ; {
		begun := time.Now()
		part, err := a.conn.NextBody(a.x, wait)
		stream := a.streams && a.x.StreamIdle() != 0
		if !stream && !a.both {
			return part, err
		}
		if err == nil {
			a.x.Moved()
			return part, nil
		}
		left := a.x.StreamLeft()
		if !stream && a.uploading() {
			left = a.x.PauseLeft(a.timeout)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || left <= 0 || time.Since(begun) < wait { // broken off, if it took less
			return part, err
		}
		wait = left
	}
}
