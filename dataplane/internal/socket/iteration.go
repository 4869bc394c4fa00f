package socket

import (
	"runtime"
	"time"
)

// EventHandler handles the events of a connection in a loop. An iteration of the loop has three steps: every handler
// with an event receives, then every one of them serves, then what they have posted is sent. Each step runs for all
// handlers before the next one begins, which keeps the step's code, the kernel's above all, in the processor's cache:
// an iteration costs a twentieth less than the same handlers one by one (make bench).
type EventHandler interface {
	// OnReadable is called when bytes have arrived; ended tells that the peer has ended its side or the connection. It
	// is called once for each arrival, whether or not earlier bytes were received. The loop is locked meanwhile, so
	// that the handler can't leave: OnReadable must do no more than find out, and report, whether the loop is to call
	// Receive.
	OnReadable(ended bool) bool
	// Receive receives what there is, on the loop's goroutine, and reports whether Serve is to be called.
	Receive() bool
	// Serve goes on with what was received, on the loop's goroutine.
	Serve()
	// Tick is called on another goroutine, perhaps at the same time, each LoopTick.
	Tick()
}

// DeferredWrite is a write that is sent at the end of an iteration.
type DeferredWrite interface {
	// Send sends it, on the loop's goroutine, and reports whether Sent is to be called.
	Send() bool
	// Sent is called when all deferred writes of the iteration were sent.
	Sent()
}

// upstreamBatch and downstreamBatch are the most handlers of an iteration: the data of all of them is to stay in the
// cache from one step to the next. After a full batch of downstream events the upstream ones are polled.
const (
	upstreamBatch   = 32
	downstreamBatch = 64
)

// PolledAt returns when the system was last asked for events. Only what the loop calls may ask.
func (l *Loop) PolledAt() time.Time { return l.polledAt }

// Post defers a write to the end of the iteration. Only what the loop calls may do so.
func (l *Loop) Post(w DeferredWrite) { l.posted = append(l.posted, w) }

// maxIterations is how many iterations a loop runs before it lets other goroutines run.
const maxIterations = 4

// run iterates until no event is left: waiting for the next one costs more than another poll, and under load it has
// arrived by then.
func (l *Loop) run() {
	for n := 1; l.iterate(); n++ {
		if n%maxIterations == 0 {
			runtime.Gosched()
		}
	}
}

// iterate polls once and serves what it finds. It reports whether there were events.
func (l *Loop) iterate() bool {
	l.polledAt = time.Now()
	events := l.watch.poll(l.events[:])
	handlers, upstream := l.ready(events, l.downstream[:])
	// Behind a full batch there may be upstream events.
	if upstream || l.moreUpstream || len(events) == downstreamBatch {
		l.moreUpstream = l.pollUpstream()
	}
	l.serve(handlers)
	return len(events) > 0 || l.moreUpstream
}

// maxUpstreamPolls is how often upstream events are polled before downstream ones are served.
const maxUpstreamPolls = 8

// pollUpstream serves upstream events, and reports whether there may be more, which the system does not report again.
func (l *Loop) pollUpstream() (more bool) {
	for range maxUpstreamPolls {
		l.polledAt = time.Now()
		events := l.upstreamWatch.poll(l.upstreamEvents[:])
		handlers, _ := l.ready(events, l.upstream[:])
		l.serve(handlers)
		if len(events) < upstreamBatch {
			return false
		}
	}
	return true
}

// ready finds the handlers of events that are to receive. upstream tells that upstreamWatch has events.
func (l *Loop) ready(events []event, room []EventHandler) (found []EventHandler, upstream bool) {
	found = room[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		id := events[i].id()
		if id == upstreamID {
			upstream = true
			continue
		}
		s := &l.slots[uint32(id)]
		if s.generation == uint32(id>>32) && s.handler != nil && s.handler.OnReadable(events[i].ended()) {
			found = append(found, s.handler)
		}
	}
	return found, upstream
}

// serve runs the steps of an iteration for handlers with events.
func (l *Loop) serve(handlers []EventHandler) {
	served := handlers[:0]
	for _, h := range handlers {
		if h.Receive() {
			served = append(served, h)
		}
	}
	for _, h := range served {
		h.Serve()
	}
	clear(handlers)
	for len(l.posted) > 0 { // a deferred write's Sent may post another
		posted := l.posted
		l.posted = l.sent[:0]
		sent := posted[:0]
		for _, w := range posted {
			if w.Send() {
				sent = append(sent, w)
			}
		}
		for _, w := range sent {
			w.Sent()
		}
		clear(posted)
		l.sent = posted
	}
}
