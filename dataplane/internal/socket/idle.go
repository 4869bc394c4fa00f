package socket

import (
	"context"
	"sync"
	"time"
)

// IdleConns watches idle connections, so that none of them needs a goroutine: its stack, at least 4 KiB once it has
// served a request, would be most of the connection's memory. It is safe for concurrent use; a nil IdleConns parks
// nothing.
type IdleConns struct {
	watch *watch

	mu     sync.Mutex
	last   uint64
	conns  map[uint64]*parked
	oldest *parked // the list is in order of parking
	newest *parked
	closed bool
	// calls is how many connections the system is being told of, without the mutex; quiet is signalled when there is none.
	calls int
	quiet sync.Cond

	stop context.CancelFunc
	done sync.WaitGroup
}

// parked is a connection from Park until it wakes.
type parked struct {
	id           uint64
	fd           int
	until        time.Time
	wake         func()
	older, newer *parked
	adding       bool // the system is being told to watch it
}

// idleTick is how often expired connections are woken, and so how much later than asked one may wake.
const idleTick = time.Second

// NewIdleConns returns a set without connections; nil where the system has nothing to watch connections with. Close
// ends what it starts.
func NewIdleConns() *IdleConns {
	w := newWatch()
	if w == nil {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	i := &IdleConns{watch: w, conns: map[uint64]*parked{}, stop: stop}
	i.quiet.L = &i.mu
	i.done.Go(func() { w.run(i.poll) })
	i.done.Go(func() { i.sweep(ctx) })
	return i
}

// Park watches a connection of which nothing is buffered and from which nobody reads. When bytes arrive, the peer ends,
// the time is over, or Wake is called, wake is called once, in a goroutine of its own. Until then the connection may be
// neither read nor closed. Park reports false, and does nothing, where the connection can't be watched.
func (i *IdleConns) Park(c *Conn, until time.Time, wake func()) (id uint64, ok bool) {
	if i == nil || c.fd < 0 || !c.Drained() {
		return 0, false
	}
	p := i.begin(c, until, wake)
	if p == nil {
		return 0, false
	}
	ok = i.watch.add(c.fd, p.id, watchOnce)
	return p.id, i.added(p, ok)
}

// begin makes a connection one of the parked ones; nil: no more are parked. It may be woken from here on.
func (i *IdleConns) begin(c *Conn, until time.Time, wake func()) *parked {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil
	}
	i.last++
	i.calls++
	p := &parked{id: i.last, fd: c.fd, until: until, wake: wake, adding: true}
	i.conns[p.id] = p
	if p.older = i.newest; p.older != nil {
		p.older.newer = p
	} else {
		i.oldest = p
	}
	i.newest = p
	return p
}

// added goes on when the system has been told to watch a connection, or has refused to. It reports whether the
// connection is parked, or was and is being woken.
func (i *IdleConns) added(p *parked, ok bool) bool {
	i.mu.Lock()
	p.adding = false
	woken := i.conns[p.id] != p
	if !ok && !woken {
		i.unlink(p)
	}
	if !ok || !woken {
		i.called()
	}
	i.mu.Unlock()
	if ok && woken {
		i.leave(p)
	}
	return ok
}

// called says that the system has been told of a connection. The mutex is held.
func (i *IdleConns) called() {
	if i.calls--; i.calls == 0 {
		i.quiet.Broadcast()
	}
}

// leave stops watching a connection that is parked no more, and wakes it.
func (i *IdleConns) leave(p *parked) {
	i.watch.remove(p.fd) // before it wakes: then the descriptor may become another one's
	i.mu.Lock()
	i.called()
	i.mu.Unlock()
	go p.wake()
}

// Wake wakes a parked connection, unless it woke already.
func (i *IdleConns) Wake(id uint64) {
	i.mu.Lock()
	p := i.conns[id]
	if p != nil {
		p = i.take(p)
	}
	i.mu.Unlock()
	if p != nil {
		i.leave(p)
	}
}

// take takes a connection out, for leave; nil: Park is about to do that. The mutex is held.
func (i *IdleConns) take(p *parked) *parked {
	i.unlink(p)
	if p.adding {
		return nil
	}
	i.calls++
	return p
}

// poll wakes the connections with events.
func (i *IdleConns) poll() {
	var room [128]event
	for events := room[:]; len(events) == len(room); {
		events = i.watch.poll(room[:])
		for n := range events {
			i.Wake(events[n].id())
		}
	}
}

// WakeAll wakes all connections.
func (i *IdleConns) WakeAll() {
	if i != nil {
		i.wakeUntil(time.Time{})
	}
}

// Len returns the number of parked connections.
func (i *IdleConns) Len() int {
	if i == nil {
		return 0
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.conns)
}

// Close parks no more connections, wakes all, and waits for what NewIdleConns has started.
func (i *IdleConns) Close() {
	if i == nil {
		return
	}
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.WakeAll()
	i.mu.Lock()
	for i.calls > 0 {
		i.quiet.Wait()
	}
	i.mu.Unlock()
	i.stop()
	i.watch.close()
	i.done.Wait()
}

// unlink makes a connection none of the parked ones. The mutex is held.
func (i *IdleConns) unlink(p *parked) {
	delete(i.conns, p.id)
	if p.older != nil {
		p.older.newer = p.newer
	} else {
		i.oldest = p.newer
	}
	if p.newer != nil {
		p.newer.older = p.older
	} else {
		i.newest = p.older
	}
}

// wakeUntil wakes the connections whose time is over by now; the zero time wakes all.
func (i *IdleConns) wakeUntil(now time.Time) {
	for {
		i.mu.Lock()
		p := i.oldest
		if p == nil || !now.IsZero() && now.Before(p.until) {
			i.mu.Unlock()
			return
		}
		p = i.take(p)
		i.mu.Unlock()
		if p != nil {
			i.leave(p)
		}
	}
}

func (i *IdleConns) sweep(ctx context.Context) {
	tick := time.NewTicker(idleTick)
	defer tick.Stop()
	var t trim
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			i.wakeUntil(now)
			i.mu.Lock()
			total := i.last
			i.mu.Unlock()
			t.look(now, total)
		}
	}
}
