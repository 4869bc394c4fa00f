package socket

import (
	"context"
	"sync"
	"time"
)

// Lot watches connections that rest, so that a resting connection needs no goroutine: its stack, at least 4 KiB once it has served a request, would
// be most of what the connection takes. It is safe for concurrent use; the nil Lot takes nothing in.
type Lot struct {
	watch *watch

	mu     sync.Mutex
	last   uint64
	rests  map[uint64]*rest
	oldest *rest // the list is in order of parking
	newest *rest
	closed bool

	stop context.CancelFunc
	done sync.WaitGroup
}

// rest is one stay of a connection.
type rest struct {
	id           uint64
	fd           int
	until        time.Time
	wake         func()
	older, newer *rest
}

// lotTick is how often stays are looked at that have become too long, and so how much longer than asked they may be.
const lotTick = time.Second

// NewLot returns an empty lot; nil where the system has nothing to watch connections with. Close ends what it starts.
func NewLot() *Lot {
	w := newWatch()
	if w == nil {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Lot{watch: w, rests: map[uint64]*rest{}, stop: stop}
	l.done.Go(func() { w.run(l.look) })
	l.done.Go(func() { l.sweep(ctx) })
	return l
}

// Park takes a connection in that nothing is buffered of and nobody reads from: as soon as something arrives or ends, or the time is over, or Wake is
// called, wake is called in a goroutine of its own, once. Until then nothing may be read from the connection, and it may not be closed. Park reports false,
// and does nothing, where it can't do that.
func (l *Lot) Park(c *Conn, until time.Time, wake func()) (id uint64, parked bool) {
	if l == nil || c.fd < 0 || !c.Drained() {
		return 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, false
	}
	l.last++
	r := &rest{id: l.last, fd: c.fd, until: until, wake: wake}
	if !l.watch.add(c.fd, r.id, watchOnce) {
		return 0, false
	}
	l.rests[r.id] = r
	if r.older = l.newest; r.older != nil {
		r.older.newer = r
	} else {
		l.oldest = r
	}
	l.newest = r
	return r.id, true
}

// Wake ends a stay, unless it is over.
func (l *Lot) Wake(id uint64) {
	l.mu.Lock()
	r := l.rests[id]
	if r != nil {
		l.leave(r)
	}
	l.mu.Unlock()
	if r != nil {
		go r.wake()
	}
}

// look is Wake for what the system reports.
func (l *Lot) look() {
	var room [128]event
	for events := room[:]; len(events) == len(room); {
		events = l.watch.poll(room[:])
		for i := range events {
			l.Wake(events[i].id())
		}
	}
}

// WakeAll ends all stays.
func (l *Lot) WakeAll() {
	if l != nil {
		l.wakeUntil(time.Time{})
	}
}

// Len returns the number of connections that rest.
func (l *Lot) Len() int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rests)
}

// Close takes nothing in any more, ends all stays and waits for what NewLot has started.
func (l *Lot) Close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.WakeAll()
	l.stop()
	l.watch.close()
	l.done.Wait()
}

// leave takes a stay out. The mutex is held.
func (l *Lot) leave(r *rest) {
	l.watch.remove(r.fd)
	delete(l.rests, r.id)
	if r.older != nil {
		r.older.newer = r.newer
	} else {
		l.oldest = r.newer
	}
	if r.newer != nil {
		r.newer.older = r.older
	} else {
		l.newest = r.older
	}
}

// wakeUntil ends the stays whose time is over by now; the zero time ends all.
func (l *Lot) wakeUntil(now time.Time) {
	for {
		l.mu.Lock()
		r := l.oldest
		if r == nil || !now.IsZero() && now.Before(r.until) {
			l.mu.Unlock()
			return
		}
		l.leave(r)
		l.mu.Unlock()
		go r.wake()
	}
}

func (l *Lot) sweep(ctx context.Context) {
	tick := time.NewTicker(lotTick)
	defer tick.Stop()
	var t trim
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			l.wakeUntil(now)
			l.mu.Lock()
			parked := l.last
			l.mu.Unlock()
			t.look(now, parked)
		}
	}
}
