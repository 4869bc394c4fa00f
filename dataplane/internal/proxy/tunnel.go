package proxy

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/attempt"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/fault"
)

// tunnel carries another protocol's bytes between the two ends of an exchange, whatever each of them is. Each direction
// has a goroutine, which receives only when what came before has been sent: a slow peer holds up the other one, and
// nothing piles up here.
type tunnel struct {
	x    *exchange.Exchange
	over atomic.Bool // one direction has failed, and has broken the other one off
	ends [2]exchange.Tunnel
	up   int64 // bytes from the client, once that direction is over
}

// errIdle is of a tunnel in which nothing moved for too long.
var errIdle = errors.New("nothing went in either direction for too long")

// tunnel sends the response's head and carries bytes until both sides are through, one of them fails, or nothing moves
// for idle. The policy's timeout ends with the head.
func (p *Proxy) tunnel(a *attempt.Attempts, idle time.Duration, done *telemetry.Done) {
	x := a.Exchange
	near, err := x.Down.Tunnel(x)
	if err != nil {
		x.Response.Code = fault.ClientClosed
		a.Conn.Abort()
		x.Down.Abort()
		return
	}
	p.upgrades.Begin()
	defer p.upgrades.End()
	x.Own()
	x.BeginStream(idle)
	t := &tunnel{x: x, ends: [2]exchange.Tunnel{near, a.Conn.Tunnel()}}
	up := make(chan error)
	go func() {
		err := errOther
		defer func() {
			if v := recover(); v != nil {
				p.panics.Caught("a tunnel", x.Route, v)
				t.breakOff()
				err = errDefect
			}
			up <- err
		}()
		t.up, err = t.carry(t.ends[0], t.ends[1], idle)
	}()
	var down error
	joined := false
	defer func() {
		if v := recover(); v != nil { // the other direction must not go on with what others get next
			t.breakOff()
			if !joined {
				<-up //nolint:errcheck // what it ended with is not what matters now
			}
			panic(v)
		}
	}()
	done.ResponseBytes, down = t.carry(t.ends[1], t.ends[0], idle)
	err, joined = <-up, true
	done.RequestBytes = t.up
	if err == nil && down == nil {
		return
	}
	x.Response.Code = fault.UpstreamUnavailable
	switch {
	case errors.Is(err, errDefect):
		x.Response.Code = fault.Internal
	case errors.Is(err, errIdle), errors.Is(down, errIdle):
		x.Response.Code = fault.UpstreamTimeout
	case x.Down.Gone(), err != nil && !errors.Is(err, errOther):
		x.Response.Code = fault.ClientClosed
	}
	x.Down.Abort()
}

// errOther is of a direction that ended because the other one had failed.
var errOther = errors.New("the other direction has failed")

// errDefect is of a direction that has panicked.
var errDefect = errors.New("the gateway has failed")

// breakOff ends both directions.
func (t *tunnel) breakOff() {
	t.over.Store(true)
	t.ends[0].Abort()
	t.ends[1].Abort()
}

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
