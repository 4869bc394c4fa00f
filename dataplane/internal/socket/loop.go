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

// Guest is a connection in a loop.
type Guest interface {
	// Stirred is called on the loop's goroutine when something has arrived, or, which ended tells, the peer has ended its side or the
	// connection. It is called once for each arrival, whether or not what arrived before was received, and must not wait.
	Stirred(ended bool)
	// Tick is called on another goroutine, perhaps at the same time, each LoopTick.
	Tick()
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
	for range max(n, 1) {
		one := newLoop()
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

func newLoop() *Loop {
	l := &Loop{watch: newWatch(), guests: make(chan struct{}, 1)}
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
	watch *watch
	// answers, which watch watches too, has the guests that are called first.
	answers *watch
	// guests has something in it when there may be guests again.
	guests chan struct{}

	mu    sync.Mutex
	seats []seat
	free  []uint32
	taken int

	// What follows is the goroutine's.
	events    [eventBatch]event
	questions [fewQuestions]arrival
	ends      [eventBatch]arrival
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

// eventBatch is the most events that are asked for at once.
const eventBatch = 128

// fewQuestions is how many questions are taken between two looks at the answers.
const fewQuestions = 16

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

// Add takes a guest in, whose connection nobody may wait on until it leaves. From here on, also before Add returns, the guest may be called; what has arrived
// before is reported too. Until it leaves, nothing on the connection can wait: only what says so works. taken is false, and nothing happens, where the
// connection can't be watched.
func (l *Loop) Add(c *Conn, g Guest, brings Kind) (at Seat, taken bool) {
	if l == nil || c.raw == nil || !c.loosen() {
		return Seat{}, false
	}
	defer func() {
		if !taken {
			c.fasten()
		}
	}()
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

// Leave ends what Add began. It is called while the connection is open; a call of Stirred or Tick may still come, or be under way, when it returns.
func (s Seat) Leave(c *Conn) {
	l := s.loop
	if l == nil {
		return
	}
	i := uint32(s.id)
	l.mu.Lock()
	l.watchOf(l.seats[i].brings).remove(c.fd)
	l.seats[i].guest = nil
	l.free = append(l.free, i)
	l.taken--
	l.mu.Unlock()
	c.fasten()
}

// Taken reports whether it is a place.
func (s Seat) Taken() bool { return s.loop != nil }

// In reports whether it is a place in a loop.
func (s Seat) In(l *Loop) bool { return s.loop == l }

// look calls the guests that something has arrived for.
func (l *Loop) look() {
	for full := true; full; {
		events := l.watch.poll(l.events[:fewQuestions])
		full = len(events) == fewQuestions
		questions, answered := l.guestsOf(events, l.questions[:])
		if answered || full { // answers may be behind the questions that were not taken yet
			l.lookAtAnswers()
		}
		call(questions)
	}
}

func (l *Loop) lookAtAnswers() {
	for full := true; full; {
		events := l.answers.poll(l.events[:])
		full = len(events) == len(l.events)
		answers, _ := l.guestsOf(events, l.ends[:])
		call(answers)
	}
}

// arrival is an event of a guest's.
type arrival struct {
	guest Guest
	ended bool
}

// guestsOf finds out whose events these are. answered tells that some are of answers.
func (l *Loop) guestsOf(events []event, room []arrival) (found []arrival, answered bool) {
	found = room[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		id := events[i].id()
		if id == answersID {
			answered = true
		} else if s := &l.seats[uint32(id)]; s.turn == uint32(id>>32) && s.guest != nil {
			found = append(found, arrival{s.guest, events[i].ended()})
		}
	}
	return found, answered
}

func call(arrivals []arrival) {
	for i := range arrivals {
		arrivals[i].guest.Stirred(arrivals[i].ended)
	}
	clear(arrivals)
}

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
