package socket

import (
	"runtime"
	"time"
)

// Guest is a connection in a loop. A loop works in rounds: all guests that something has arrived for receive it, then all of them are served, and then what
// they have posted is sent. One step for all before the next one for any keeps the step's code, the kernel's above all, in the processor's cache:
// a round costs a twentieth less than the same guests one by one (make bench).
type Guest interface {
	// Stirred is called when something has arrived, or, which ended tells, the peer has ended its side or the connection. It is called once for each
	// arrival, whether or not what arrived before was received, and with the loop locked, so that the guest can't leave meanwhile: it must do no more than
	// find out whether it is the loop's now to be received for and served, which it reports.
	Stirred(ended bool) bool
	// Receive receives what there is, on the loop's goroutine, and reports whether Serve is to be called.
	Receive() bool
	// Serve goes on with what was received, on the loop's goroutine.
	Serve()
	// Tick is called on another goroutine, perhaps at the same time, each LoopTick.
	Tick()
}

// Parcel is what is sent at the end of a round.
type Parcel interface {
	// Send sends it, on the loop's goroutine, and reports whether Sent is to be called.
	Send() bool
	// Sent is called when all parcels of the round were sent.
	Sent()
}

// answersAtOnce and questionsAtOnce are the most guests of a round: what belongs to all of them is to stay in the cache from one step to the next. After as
// many questions it is time to look at the answers.
const (
	answersAtOnce   = 32
	questionsAtOnce = 64
)

// Looked returns when it was last seen what has arrived. Only what the loop calls may ask.
func (l *Loop) Looked() time.Time { return l.looked }

// Post makes a parcel be sent at the end of the round. Only what the loop calls may do so.
func (l *Loop) Post(p Parcel) { l.posted = append(l.posted, p) }

// roundsAtOnce is how many rounds a loop goes without letting other goroutines run.
const roundsAtOnce = 4

// look serves the guests that something has arrived for, until there are none: waiting for the next ones costs more than another look, and where there is much to
// do they have arrived by then.
func (l *Loop) look() {
	for n := 1; l.round(); n++ {
		if n%roundsAtOnce == 0 {
			runtime.Gosched()
		}
	}
}

// round reports whether something had arrived.
func (l *Loop) round() bool {
	l.looked = time.Now()
	events := l.watch.poll(l.asked[:])
	questions, answered := l.stirred(events, l.questions[:])
	if answered || l.behind || len(events) == questionsAtOnce { // answers may be behind the questions that were not taken yet
		l.behind = l.lookAtAnswers()
	}
	l.serve(questions)
	return len(events) > 0 || l.behind
}

// looksAtAnswers is how often answers are looked at before it is the questions' turn.
const looksAtAnswers = 8

// lookAtAnswers reports whether there may be more of them, which the system does not tell of again.
func (l *Loop) lookAtAnswers() (more bool) {
	for range looksAtAnswers {
		l.looked = time.Now()
		events := l.answers.poll(l.answered[:])
		answers, _ := l.stirred(events, l.ends[:])
		l.serve(answers)
		if len(events) < answersAtOnce {
			return false
		}
	}
	return true
}

// stirred finds out whose events these are and who of them is to be served. answered tells that some are of answers.
func (l *Loop) stirred(events []event, room []Guest) (found []Guest, answered bool) {
	found = room[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		id := events[i].id()
		if id == answersID {
			answered = true
		} else if s := &l.seats[uint32(id)]; s.turn == uint32(id>>32) && s.guest != nil && s.guest.Stirred(events[i].ended()) {
			found = append(found, s.guest)
		}
	}
	return found, answered
}

// serve is the rest of a round.
func (l *Loop) serve(guests []Guest) {
	served := guests[:0]
	for _, g := range guests {
		if g.Receive() {
			served = append(served, g)
		}
	}
	for _, g := range served {
		g.Serve()
	}
	clear(guests)
	for len(l.posted) > 0 { // what comes after one parcel may post another
		posted := l.posted
		l.posted = l.sent[:0]
		sent := posted[:0]
		for _, p := range posted {
			if p.Send() {
				sent = append(sent, p)
			}
		}
		for _, p := range sent {
			p.Sent()
		}
		clear(posted)
		l.sent = posted
	}
}
