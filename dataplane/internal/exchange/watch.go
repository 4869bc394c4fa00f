package exchange

import (
	"context"
	"slices"
	"sync"
	"time"
)

// clientWatch tells all who want to know that the client has gone: the client's side tells one alone.
type clientWatch struct {
	turn sync.Mutex // of those who register and leave
	mu   sync.Mutex
	all  []Aborter
	gone bool
}

// Abort implements Aborter.
func (w *clientWatch) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	for _, a := range w.all {
		a.Abort()
	}
}

// Watch makes a be aborted, on another goroutine, as soon as the client is seen to break off, whoever watches besides.
// Each of the exchange's goroutines may call it and Unwatch.
func (x *Exchange) Watch(a Aborter) {
	w := &x.client
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	first := len(w.all) == 0
	if w.all == nil {
		w.all = x.watchers[:0]
	}
	w.all = append(w.all, a)
	if w.gone {
		a.Abort()
	}
	w.mu.Unlock()
	if first {
		x.Down.Watch(w)
	}
}

// Unwatch ends a Watch: when it returns, no call of a.Abort for it is under way or to come.
func (x *Exchange) Unwatch(a Aborter) {
	w := &x.client
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	w.all = slices.DeleteFunc(w.all, func(b Aborter) bool { return a == b })
	last := len(w.all) == 0
	w.mu.Unlock()
	if last {
		x.Down.Watch(nil)
	}
}

// ClientGone reports whether the client is known to have broken off. A fork knows it while a context of it is in use,
// and afterwards.
func (x *Exchange) ClientGone() bool {
	if x.of == nil {
		return x.Down != nil && x.Down.Gone()
	}
	w := &x.of.client
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}

// cancelled cancels a context.
type cancelled struct{ cancel context.CancelFunc }

// Abort implements Aborter.
func (c *cancelled) Abort() { c.cancel() }

// Context returns a context that ends with the exchange's deadline, as it is now, when the client goes away, and, in a
// parallel pipeline, when another step has refused. stop has to be called before the step's phase ends; it releases
// what the context holds.
func (x *Exchange) Context() (ctx context.Context, stop func()) {
	parent, owner := context.Background(), x
	if x.of != nil {
		parent, owner, x.waits = x.ended, x.of, true
	}
	var cancel context.CancelFunc
	if x.Deadline.IsZero() {
		ctx, cancel = context.WithCancel(parent)
	} else {
		ctx, cancel = context.WithDeadline(parent, x.Deadline)
	}
	if owner.Down == nil {
		return ctx, cancel
	}
	c := &cancelled{cancel}
	owner.Watch(c)
	return ctx, func() {
		owner.Unwatch(c)
		cancel()
	}
}

// Sleep waits for a time, or until the exchange's time is over or its client has gone away. It is not called in a loop.
func (x *Exchange) Sleep(d time.Duration) {
	ctx, stop := x.Context()
	defer stop()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	x.Tick()
}
