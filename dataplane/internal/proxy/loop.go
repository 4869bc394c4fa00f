package proxy

import (
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// In a loop an exchange waits for nothing but the service's answer, and that without a goroutine: dispatch prepares the request, Send sends it at the end of the
// loop's round, Answered prepares the response, and Send sends that. Whatever else it would have to wait for it waits for apart, in a goroutine of its own.

// leastDeadline is the shortest time limit of an exchange that is waited for in a loop, which does not look at the time more often.
const leastDeadline = 4 * socket.LoopTick

// Start implements http1.Starter.
func (p *Proxy) Start(x *exchange.Exchange, host http1.LoopConn) (over bool) {
	j := p.begin(x)
	if !j.find() {
		j.end()
		return true
	}
	j.host = host
	if j.backend.Chain.Waits() {
		go j.apart((*journey).deliver)
		return false
	}
	if !j.prepare() {
		j.end()
		return true
	}
	if !j.dispatch() {
		go j.apart((*journey).send)
	}
	return false
}

// apart takes the exchange out of its loop, and goes on with it, to its end.
func (j *journey) apart(goOn func(*journey)) {
	host := j.host
	host.Leave()
	if j.attempt.conn != nil {
		j.client.Leave()
		j.attempt.watch()
	}
	goOn(j)
	j.end()
	host.Over()
}

// dispatch sends the request in the loop, if nothing has to be waited for and no limit kept that is too short for it. It reports whether the exchange is under
// way; if so, it is not the caller's any more.
func (j *journey) dispatch() bool {
	x, a := j.x, &j.attempt
	if x.Request.Upgrade != "" || x.RPC != exchange.NoRPC || a.timeout < leastDeadline || !x.Deadline.IsZero() && x.Deadline.Sub(x.Start) < leastDeadline {
		return false
	}
	if first := a.requestPart(); first.err != nil || !first.whole || !a.choose() {
		return false
	}
	loop := j.host.Loop()
	conn, client := a.endpoint.AcquireIdle(x.Now, loop)
	if conn == nil {
		return false
	}
	a.conn, a.used, j.client = conn, conn.Used(), client
	a.endpoint.State.Add(1)
	if !client.Prepare(x, a.request.bytes, loop, j) {
		a.release()
		return false
	}
	a.tried = 1
	loop.Post(j)
	return true
}

// Send implements socket.DeferredWrite, with the request or, on the way back, the response.
func (j *journey) Send() bool {
	if j.back {
		j.broken = j.host.Flush()
		return true
	}
	left, err := j.client.Dispatch()
	switch {
	case left:
		return false // from here on it is Answered's, or Late's
	case err != nil:
		j.started, j.broken = false, err
		go j.apart((*journey).recover)
		return false
	}
	a := &j.attempt
	a.tried = 0 // nothing was sent that anybody could act on: the same endpoint gets it
	a.release()
	go j.apart((*journey).send)
	return false
}

// Sent implements socket.DeferredWrite: the client has been sent the response.
func (j *journey) Sent() {
	if j.broken != nil {
		j.x.Response.Code = fault.ClientClosed
		j.x.Down.Abort()
	}
	host := j.host
	j.end()
	host.Over()
}

// Answered implements http1.ResponseWaiter.
func (j *journey) Answered() {
	x, a := j.x, &j.attempt
	progress, started, err := j.client.Collect(x)
	switch {
	case progress == http1.Receiving:
		return
	case err != nil:
		j.started, j.broken = started, err
		go j.apart((*journey).recover)
		return
	case progress == http1.Incomplete:
		go j.apart((*journey).await)
		return
	}
	x.Now = j.host.Loop().PolledAt()
	a.answered = x.Now
	if first := a.responsePart(); first.err == nil && (!first.whole || j.backend.Chain.WorksOn(x, len(first.bytes))) {
		go j.apart((*journey).respond)
		return
	}
	j.respond()
	j.back = true
	j.host.Loop().Post(j)
}

// Late implements http1.ResponseWaiter.
func (j *journey) Late() { j.apart((*journey).await) }

// await waits for the response to the request that was dispatched.
func (j *journey) await() {
	j.started, j.broken = j.client.Wait(j.x, j.attempt.timeout)
	j.recover()
}

// recover goes on after the answer to the request that was dispatched, or without it.
func (j *journey) recover() {
	answered, again := j.attempt.outcome(j.started, j.broken)
	switch {
	case again:
		j.send()
	case answered:
		j.respond()
	default:
		j.respondLocally()
	}
}
