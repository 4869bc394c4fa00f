package socket

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Loops are event loops. Each serves many connections that are in use all the time in one goroutine, which keeps its
// stack and its data in the processor's cache; a goroutine for each connection would fetch its own from memory at every
// arrival (make bench, 256 connections). What runs in a loop must not block. Loops are safe for concurrent use; a nil
// Loops registers nothing.
type Loops struct {
	all  []*Loop
	next atomic.Uint32
	stop context.CancelFunc
	done sync.WaitGroup
}

// LoopTick is how often handlers are told that time has passed.
const LoopTick = 50 * time.Millisecond

// Registration is a handler's registration with a loop. The zero value is none.
type Registration struct {
	loop *Loop
	id   uint64
}

// NewLoops starts a number of loops; nil where the system has nothing to watch connections with. Close ends what it
// starts.
func NewLoops(n int) *Loops {
	ctx, stop := context.WithCancel(context.Background())
	l := &Loops{stop: stop}
	for i := range max(n, 1) {
		one := newLoop(i)
		if one == nil {
			l.Close()
			return nil
		}
		l.all = append(l.all, one)
		l.done.Go(func() { one.watch.run(one.run) })
		l.done.Go(func() { one.tick(ctx) })
	}
	return l
}

func newLoop(number int) *Loop {
	l := &Loop{number: number, watch: newWatch(), added: make(chan struct{}, 1)}
	if l.watch == nil {
		return nil
	}
	if l.upstreamWatch = newInnerWatch(); l.upstreamWatch == nil {
		l.watch.close()
		return nil
	}
	if !l.watch.add(l.upstreamWatch.fd, upstreamID, watchAlways) {
		l.close()
		return nil
	}
	return l
}

func (l *Loop) close() {
	l.watch.close()
	l.upstreamWatch.close()
}

// Any returns one of the loops, in turn; nil where there are none.
func (l *Loops) Any() *Loop {
	if l == nil {
		return nil
	}
	return l.all[int(l.next.Add(1))%len(l.all)]
}

// Len returns the number of registered handlers.
func (l *Loops) Len() int {
	if l == nil {
		return 0
	}
	n := 0
	for _, one := range l.all {
		one.mu.Lock()
		n += one.taken
		one.mu.Unlock()
	}
	return n
}

// Close ends the loops. Every handler has to have left before.
func (l *Loops) Close() {
	if l == nil {
		return
	}
	l.stop()
	for _, one := range l.all {
		one.watch.close()
	}
	l.done.Wait()
	for _, one := range l.all {
		one.upstreamWatch.close()
	}
}

// Loop is one of Loops.
type Loop struct {
	number int
	watch  *watch
	// upstreamWatch, which watch watches too, has the upstream connections. Their handlers are called first.
	upstreamWatch *watch
	// added is signalled when a handler was registered.
	added chan struct{}

	mu    sync.Mutex
	slots []slot
	free  []uint32
	taken int

	// The loop's goroutine owns what follows.
	polledAt       time.Time // when the system was last asked for events
	moreUpstream   bool      // there may be upstream events that were not polled
	events         [downstreamBatch]event
	upstreamEvents [upstreamBatch]event
	downstream     [downstreamBatch]EventHandler
	upstream       [upstreamBatch]EventHandler
	posted         []DeferredWrite
	sent           []DeferredWrite // its memory is used for posted next
	spare          Spare
}

// Kind is the side that a connection is on.
type Kind uint8

const (
	// Downstream connections are clients': they bring requests.
	Downstream Kind = iota
	// Upstream connections are services': they bring responses. Their handlers are called first: the buffers that a
	// finished exchange gives back are in the processor's cache and serve the next request, and fewer are in use at a
	// time.
	Upstream
)

// upstreamID is the number that upstreamWatch is watched as. Handlers have other numbers.
const upstreamID = 0

// slot holds one registered handler. An event that is older than the registration has another generation.
type slot struct {
	handler    EventHandler
	generation uint32 // 1 or more
	kind       Kind
}

func (l *Loop) watchOf(k Kind) *watch {
	if k == Upstream {
		return l.upstreamWatch
	}
	return l.watch
}

// Number returns which one of Loops it is, from 0.
func (l *Loop) Number() int { return l.number }

// Add registers a handler for a connection, on which nobody may wait until the handler leaves. The handler may be
// called from here on, also before Add returns; what arrived before is reported too. While it is registered, the
// connection is nonblocking: only methods that never wait work. Where the connection can't be watched, taken is false
// and nothing happens.
func (l *Loop) Add(c *Conn, h EventHandler, kind Kind) (at Registration, taken bool) {
	if l == nil || !c.CanLoop() || !c.leavePoller() {
		return Registration{}, false
	}
	if at, taken = l.register(c, h, kind); !taken {
		c.rejoinPoller()
	}
	return at, taken
}

// register makes the slot ready before the system watches the connection: an event may come at once. The system is
// asked without the mutex.
func (l *Loop) register(c *Conn, h EventHandler, kind Kind) (at Registration, taken bool) {
	id := l.take(h, kind)
	if !l.watchOf(kind).add(c.fd, id, watchAlways) {
		l.release(id)
		return Registration{}, false
	}
	select {
	case l.added <- struct{}{}:
	default:
	}
	return Registration{l, id}, true
}

// take takes a slot for a handler and returns the number to watch its connection as.
func (l *Loop) take(h EventHandler, kind Kind) (id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var i uint32
	if n := len(l.free); n > 0 {
		i, l.free = l.free[n-1], l.free[:n-1]
	} else {
		i = uint32(len(l.slots))
		l.slots = append(l.slots, slot{})
	}
	s := &l.slots[i]
	s.generation++
	s.handler, s.kind = h, kind
	l.taken++
	return uint64(s.generation)<<32 | uint64(i)
}

// release frees a slot, whose handler is not called any more. Events that still come for it are older than those of the
// next one.
func (l *Loop) release(id uint64) (h EventHandler, kind Kind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.slots[uint32(id)]
	h, kind = s.handler, s.kind
	s.handler = nil
	l.free = append(l.free, uint32(id))
	l.taken--
	return h, kind
}

// Leave removes the registration. The connection's owner calls it while the connection is open. A call of OnReadable or
// of Tick may be running meanwhile.
func (r Registration) Leave(c *Conn) {
	if r.loop != nil {
		r.leave(c)
		c.rejoinPoller()
	}
}

func (r Registration) leave(c *Conn) (h EventHandler, kind Kind) {
	h, kind = r.loop.release(r.id)
	r.loop.watchOf(kind).remove(c.fd)
	return h, kind
}

// Move is Leave followed by Add to another loop, at a lower cost. Where it fails, the handler has left.
func (r Registration) Move(c *Conn, to *Loop) (at Registration, taken bool) {
	h, kind := r.leave(c)
	if at, taken = to.register(c, h, kind); !taken {
		c.rejoinPoller()
	}
	return at, taken
}

// Taken reports whether a handler is registered.
func (r Registration) Taken() bool { return r.loop != nil }

// Loop returns the loop of the registration; nil: none.
func (r Registration) Loop() *Loop { return r.loop }

// tick calls every handler's Tick, as long as there are handlers.
func (l *Loop) tick(ctx context.Context) {
	tick := time.NewTicker(LoopTick)
	defer tick.Stop()
	var here []EventHandler
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		for i := range l.slots {
			if h := l.slots[i].handler; h != nil {
				here = append(here, h)
			}
		}
		l.mu.Unlock()
		for _, h := range here {
			h.Tick()
		}
		if len(here) == 0 {
			tick.Stop()
			select {
			case <-ctx.Done():
				return
			case <-l.added:
			}
			tick.Reset(LoopTick)
		}
		clear(here)
		here = here[:0]
	}
}
