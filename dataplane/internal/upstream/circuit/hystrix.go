package circuit

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/dataplane/internal/upstream/retry"
	"gateway.internal/shared/config"
)

// hystrix is a circuit with a bulkhead: a service that hangs holds up no more requests than it may have under way and
// waiting. The share of errors of the last interval opens it.
type hystrix struct {
	machine
	latencies retry.Latencies

	waiting atomic.Int64 // is changed before a place is looked for, and read after one was given back
	queueMu sync.Mutex   // protects queue
	queue   []*Waiter
}

func newHystrix(now time.Time) *hystrix {
	c := &hystrix{}
	c.init(now)
	c.inUse.unlimited = make([]place, shardCount())
	return c
}

// Waiter is an attempt that waits for a place.
type Waiter struct {
	// Done has something in it when the wait may be over: there is a place, or Abort was called.
	Done chan struct{}
	has  bool // the mutex of the queue protects it
}

// NewWaiter returns one.
func NewWaiter() *Waiter { return &Waiter{Done: make(chan struct{}, 1)} }

// Abort ends the wait: nobody waits for the response any more.
func (w *Waiter) Abort() {
	select {
	case w.Done <- struct{}{}:
	default:
	}
}

// Admit implements Circuit.
func (c *hystrix) Admit(now time.Time, shard uint32, p *Permit) Verdict {
	if c.shut(now) {
		c.rejected.Add(1)
		return Open
	}
	if c.most() == 0 {
		c.inUse.add(shard, 1)
		return c.begin(c, now, shard, p, unlimited)
	}
	for c.waiting.Load() > 0 || !c.take() {
		if c.overdue(now) {
			c.serveAll()
			continue
		}
		if c.set.Load().Pending > 0 {
			return Busy
		}
		c.rejected.Add(1)
		return Full
	}
	return c.Enter(now, shard, p)
}

// Enter implements Queuing.
func (c *hystrix) Enter(now time.Time, shard uint32, p *Permit) Verdict {
	return c.begin(c, now, shard, p, limited)
}

// take takes a place, if there is one.
func (c *hystrix) take() bool { return c.inUse.take(c.most()) }

// leave gives a place back, and to the first that waits for one.
func (c *hystrix) leave(p *Permit) {
	c.inUse.give(p)
	if c.waiting.Load() > 0 {
		c.serveAll()
	}
}

func (c *hystrix) stream(p *Permit) {
	if c.gradient.Load() != nil {
		c.leave(p)
	}
}

func (c *hystrix) serveAll() {
	c.queueMu.Lock()
	c.serve()
	c.queueMu.Unlock()
}

// serve gives the places that there are to those that wait. The mutex of the queue is held.
func (c *hystrix) serve() {
	for len(c.queue) > 0 && c.take() {
		w := c.queue[0]
		c.queue = slices.Delete(c.queue, 0, 1)
		c.waiting.Add(-1)
		w.has = true
		w.Abort()
	}
}

// Queue implements Queuing.
func (c *hystrix) Queue(w *Waiter) Verdict {
	c.queueMu.Lock()
	defer c.queueMu.Unlock()
	if len(c.queue) >= c.set.Load().Pending {
		if len(c.queue) == 0 && c.take() {
			w.has = true
			return Admitted
		}
		c.rejected.Add(1)
		return Full
	}
	c.queue = append(c.queue, w)
	c.waiting.Add(1)
	if c.serve(); w.has {
		return Admitted
	}
	return Busy
}

// Unqueue implements Queuing.
func (c *hystrix) Unqueue(w *Waiter) bool {
	c.queueMu.Lock()
	defer c.queueMu.Unlock()
	if w.has {
		return true
	}
	if i := slices.Index(c.queue, w); i >= 0 {
		c.queue = slices.Delete(c.queue, i, i+1)
		c.waiting.Add(-1)
		c.rejected.Add(1)
	}
	return false
}

// Set implements Circuit.
func (c *hystrix) Set(set *config.Circuit) {
	c.machine.Set(set)
	c.serveAll()
}

// Status implements Circuit.
func (c *hystrix) Status(now time.Time) Status {
	s := c.machine.Status(now)
	s.Pending = int(c.waiting.Load())
	l := &c.latencies
	s.P50, s.P95, s.P99 = l.Quantile(now, 0.5), l.Quantile(now, 0.95), l.Quantile(now, 0.99)
	return s
}

func (c *hystrix) ended(p *Permit, r *outcome.Result) {
	if r.Kind == outcome.Answered {
		c.latencies.Add(r.Ended, r.Took)
	}
	c.sample(r)
	c.count(p, r)
}
