package socket

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Loops serve connections that are in use all the time, many in one goroutine: what serves one after the other keeps its stack and its
// code's data in the processor's cache, where a goroutine for each would have to fetch its own from memory whenever something arrives (make bench,
// 256 connections). What is done in a loop must not wait for anything. They are safe for concurrent use; nil takes nothing in.
type Loops struct {
	all  []*Loop
	next atomic.Uint32
	stop context.CancelFunc
	done sync.WaitGroup
}

// LoopTick is how often guests are told that time has passed.
const LoopTick = 50 * time.Millisecond

// Seat is a guest's place in a loop. The zero value is none.
type Seat struct {
	loop *Loop
	id   uint64
}

// NewLoops starts a number of loops; nil where the system has nothing to watch connections with. Close ends what it starts.
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
		l.done.Go(func() { one.watch.run(one.look) })
		l.done.Go(func() { one.tick(ctx) })
	}
	return l
}

func newLoop(number int) *Loop {
	l := &Loop{number: number, watch: newWatch(), guests: make(chan struct{}, 1)}
	if l.watch == nil {
		return nil
	}
	if l.answers = newInnerWatch(); l.answers == nil {
		l.watch.close()
		return nil
	}
	if !l.watch.add(l.answers.fd, answersID, watchAlways) {
		l.close()
		return nil
	}
	return l
}

func (l *Loop) close() {
	l.watch.close()
	l.answers.close()
}

// Any returns one of the loops, each in turn; nil where there are none.
func (l *Loops) Any() *Loop {
	if l == nil {
		return nil
	}
	return l.all[int(l.next.Add(1))%len(l.all)]
}

// Len returns the number of guests.
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

// Close ends the loops. Guests have to have left.
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
		one.answers.close()
	}
}

// Loop is one of Loops.
type Loop struct {
	number int
	watch  *watch
	// answers, which watch watches too, has the guests that are called first.
	answers *watch
	// guests has something in it when there may be guests again.
	guests chan struct{}

	mu    sync.Mutex
	seats []seat
	free  []uint32
	taken int

	// What follows is the goroutine's.
	looked    time.Time // when it was last seen what has arrived
	behind    bool      // there may be answers that were not looked at
	asked     [questionsAtOnce]event
	answered  [answersAtOnce]event
	questions [questionsAtOnce]Guest
	ends      [answersAtOnce]Guest
	posted    []Parcel
	sent      []Parcel // whose memory posted gets next
}

// Kind is what a guest brings.
type Kind uint8

const (
	// Questions begin something: a client's requests.
	Questions Kind = iota
	// Answers end something that has begun. Guests who bring them are called before others: what they have held, which is in the processor's cache, is then
	// used for the next question, and less of everything is in use at a time.
	Answers
)

// answersID is what answers is watched as. Guests have other numbers.
const answersID = 0

// seat is one place. A report of the system's that is older than the guest who sits there now has another turn.
type seat struct {
	guest  Guest
	turn   uint32 // 1 or more
	brings Kind
}

func (l *Loop) watchOf(k Kind) *watch {
	if k == Answers {
		return l.answers
	}
	return l.watch
}

// Number returns which one of Loops it is, from 0.
func (l *Loop) Number() int { return l.number }

// Add takes a guest in, whose connection nobody may wait on until it leaves. From here on, also before Add returns, the guest may be called; what has arrived
// before is reported too. Until it leaves, nothing on the connection can wait: only what says so works. taken is false, and nothing happens, where the
// connection can't be watched.
func (l *Loop) Add(c *Conn, g Guest, brings Kind) (at Seat, taken bool) {
	if l == nil || c.raw == nil || !c.loosen() {
		return Seat{}, false
	}
	if at, taken = l.seat(c, g, brings); !taken {
		c.fasten()
	}
	return at, taken
}

func (l *Loop) seat(c *Conn, g Guest, brings Kind) (at Seat, taken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var i uint32
	if n := len(l.free); n > 0 {
		i, l.free = l.free[n-1], l.free[:n-1]
	} else {
		i = uint32(len(l.seats))
		l.seats = append(l.seats, seat{})
	}
	s := &l.seats[i]
	s.turn++
	s.guest, s.brings = g, brings
	id := uint64(s.turn)<<32 | uint64(i)
	if !l.watchOf(brings).add(c.fd, id, watchAlways) {
		s.guest = nil
		l.free = append(l.free, i)
		return Seat{}, false
	}
	l.taken++
	select {
	case l.guests <- struct{}{}:
	default:
	}
	return Seat{l, id}, true
}

// Leave ends what Add began. It is called while the connection is open, by whom it belongs to: a call of Stirred, which finds that out, or of Tick may be
// under way.
func (s Seat) Leave(c *Conn) {
	if s.loop != nil {
		s.leave(c)
		c.fasten()
	}
}

func (s Seat) leave(c *Conn) (g Guest, brings Kind) {
	l, i := s.loop, uint32(s.id)
	l.mu.Lock()
	defer l.mu.Unlock()
	g, brings = l.seats[i].guest, l.seats[i].brings
	l.watchOf(brings).remove(c.fd)
	l.seats[i].guest = nil
	l.free = append(l.free, i)
	l.taken--
	return g, brings
}

// Move is Leave and then Add to another loop, but costs less. Where it can't be done, the guest has left.
func (s Seat) Move(c *Conn, to *Loop) (at Seat, taken bool) {
	g, brings := s.leave(c)
	if at, taken = to.seat(c, g, brings); !taken {
		c.fasten()
	}
	return at, taken
}

// Taken reports whether it is a place.
func (s Seat) Taken() bool { return s.loop != nil }

// Loop returns the loop that it is in; nil: none.
func (s Seat) Loop() *Loop { return s.loop }

// tick tells guests, as long as there are any, that time passes.
func (l *Loop) tick(ctx context.Context) {
	tick := time.NewTicker(LoopTick)
	defer tick.Stop()
	var here []Guest
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		for i := range l.seats {
			if g := l.seats[i].guest; g != nil {
				here = append(here, g)
			}
		}
		l.mu.Unlock()
		for _, g := range here {
			g.Tick()
		}
		if len(here) == 0 {
			tick.Stop()
			select {
			case <-ctx.Done():
				return
			case <-l.guests:
			}
			tick.Reset(LoopTick)
		}
		clear(here)
		here = here[:0]
	}
}
