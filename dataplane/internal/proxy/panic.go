package proxy

import (
	"gateway.internal/dataplane/internal/attempt"
	"gateway.internal/shared/fault"
)

// A defect anywhere on an exchange's way ends that exchange alone. What it had of a service's connection is given up,
// since nobody knows its state, and the client gets 500, or, where it has been sent the response's head, sees the
// response break off.

// guard runs a part of the transaction, to whose end nothing else is left to do than end.
func (t *transaction) guard(part func(*transaction)) {
	defer func() {
		if v := recover(); v != nil {
			t.fail(v)
		}
	}()
	part(t)
}

// guardLoop is deferred where a part runs on a loop's goroutine.
func (t *transaction) guardLoop() {
	if v := recover(); v != nil {
		go t.apart(func(t *transaction) { t.fail(v) })
	}
}

// guardEnd is deferred where the exchange ends: the client has its response, and its connection goes on. The
// transaction is not used again then.
func (t *transaction) guardEnd() {
	if v := recover(); v != nil {
		t.p.panics.Caught("the end of an exchange", t.x.Route, v)
	}
}

// fail ends the exchange after a panic.
func (t *transaction) fail(v any) {
	x := t.x
	t.p.panics.Caught("the exchange", x.Route, v)
	defer func() {
		if v := recover(); v != nil { // what is broken is what would have to clean up
			t.p.panics.Caught("the end of an exchange", x.Route, v)
			t.down.Abort()
		}
	}()
	x.Down = t.down // a step's may be what has panicked
	t.attempt.StopUpload()
	if !x.Responded {
		x.Fail(fault.Internal, "the gateway has failed")
		t.done.ResponseBytes = attempt.WriteLocal(x, t.pages())
	} else {
		x.Response.Code = fault.Internal
		x.Down.Abort()
	}
	t.attempt.Discard()
}
