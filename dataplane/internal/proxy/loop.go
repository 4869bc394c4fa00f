package proxy

import (
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/fault"
)

// In a loop an exchange waits for nothing but the service's answer, and that without a goroutine: dispatch prepares the
// request, Send sends it at the end of the loop's round, Answered prepares the response, and Send sends that. Whatever
// else it would have to wait for it waits for apart, in a goroutine of its own.

// leastDeadline is the shortest time limit of an exchange that is waited for in a loop, which does not look at the time
// more often.
const leastDeadline = 4 * socket.LoopTick

// Start implements codec.LoopHandler.
func (p *Proxy) Start(x *exchange.Exchange, host codec.LoopConn) (over bool) {
	t := p.begin(x)
	t.host = host
	if over = t.start(); over {
		t.end()
	}
	return over
}

// start takes the exchange to where the service is asked, or goes on with it apart. It reports whether the exchange is
// over.
func (t *transaction) start() (over bool) {
	defer t.guardLoop()
	if !t.find() {
		return true
	}
	t.x.InLoop = true
	switch t.prepare() {
	case later:
		go t.apart((*transaction).deliver)
		return false
	case finished:
		return true
	}
	switch {
	case t.dispatch():
	case !t.attempt.Refused():
		go t.apart((*transaction).send)
	case t.backend.Chain.Works():
		go t.apart((*transaction).refuseByCircuit)
	default:
		t.refuseByCircuit()
		return true
	}
	return false
}

// refuseByCircuit answers where the service's circuit does not let it be asked.
func (t *transaction) refuseByCircuit() {
	t.attempt.Refuse()
	t.respondLocally()
}

// apart takes the exchange out of its loop, and goes on with it, to its end.
func (t *transaction) apart(goOn func(*transaction)) {
	host := t.host
	host.Leave()
	t.x.InLoop = false
	if t.attempt.Conn != nil {
		t.client.Leave()
		t.attempt.Watch()
	}
	t.guard(goOn)
	t.end()
	host.Over()
}

// dispatch sends the request in the loop, if nothing has to be waited for and no limit kept that is too short for it.
// It reports whether the exchange is under way; if so, it is not the caller's any more.
func (t *transaction) dispatch() bool {
	x, a := t.x, &t.attempt
	if x.Request.Upgrade != "" || x.RPC != exchange.NoRPC || a.Patience() < leastDeadline ||
		!x.Deadline.IsZero() && x.Deadline.Sub(x.Start) < leastDeadline {
		return false
	}
	if a.Retries != nil && a.Retries.PerTry > 0 && a.Retries.PerTry < leastDeadline {
		return false
	}
	if a.Several() { // each of them has a goroutine, and they are waited for together
		return false
	}
	first := a.RequestPart()
	if first.Err != nil || !first.Whole {
		return false
	}
	if n := t.backend.Limits.BufferBytes; n > 0 && len(first.Bytes) > n || !a.Choose() {
		return false
	}
	loop := t.host.Loop()
	if t.client = a.AcquireIdle(loop); t.client == nil {
		return false
	}
	if !t.client.Prepare(x, a.Request.Bytes, loop, t) {
		a.Withdraw()
		return false
	}
	loop.Post(t)
	return true
}

// Send implements socket.DeferredWrite, with the request or, on the way back, the response.
func (t *transaction) Send() bool {
	defer t.guardLoop()
	if t.back {
		t.broken = t.host.Flush()
		return true
	}
	left, err := t.client.Dispatch()
	switch {
	case left:
		return false // from here on it is Answered's, or Late's
	case err != nil:
		t.started, t.broken = false, err
		go t.apart((*transaction).recover)
		return false
	}
	t.attempt.Withdraw()
	go t.apart((*transaction).send)
	return false
}

// Sent implements socket.DeferredWrite: the client has been sent the response.
func (t *transaction) Sent() {
	if t.broken != nil {
		t.guard((*transaction).unsent)
	}
	host := t.host
	t.end()
	host.Over()
}

// unsent ends an exchange whose response could not be sent.
func (t *transaction) unsent() {
	t.x.Response.Code = fault.ClientClosed
	t.x.Down.Abort()
}

// Answered implements codec.ResponseWaiter.
func (t *transaction) Answered() {
	defer t.guardLoop()
	x, a := t.x, &t.attempt
	progress, started, err := t.client.Collect(x)
	switch {
	case progress == codec.Receiving:
		return
	case err != nil:
		t.started, t.broken = started, err
		go t.apart((*transaction).recover)
		return
	case progress == codec.Incomplete:
		go t.apart((*transaction).await)
		return
	}
	if a.Retriable() {
		t.started, t.broken = true, nil
		go t.apart((*transaction).recover)
		return
	}
	x.Now = t.host.Loop().PolledAt()
	a.Head(x.Now)
	if a.Retries != nil {
		a.Good()
	}
	if first := a.ResponsePart(); first.Err == nil && (!first.Whole || t.backend.Chain.WorksOn(x, len(first.Bytes))) {
		go t.apart((*transaction).respond)
		return
	}
	t.respond()
	t.back = true
	t.host.Loop().Post(t)
}

// Late implements codec.ResponseWaiter.
func (t *transaction) Late() { t.apart((*transaction).await) }

// await waits for the response to the request that was dispatched.
func (t *transaction) await() {
	t.started, t.broken = t.client.Wait(t.x, t.attempt.Patience())
	t.recover()
}

// recover goes on after the answer to the request that was dispatched, or without it.
func (t *transaction) recover() {
	answered, again := t.attempt.Judge(t.started, t.broken)
	switch {
	case again:
		t.send()
	case answered:
		t.respond()
	default:
		t.respondLocally()
	}
}
