package attempt

import (
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/inuse"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/shared/fault"
)

// Group is the attempts of one exchange that may be under way at once. Each has a goroutine, and a copy of the exchange
// with a response and a source of the request's body of its own, so that nothing of one is seen by another, or by the
// client, before it has won. The exchange's goroutine owns the group:
//
//	g := attempts.Group(keptBytes)
//	defer g.End()
//	g.Start()                            // and again, when another one is to begin
//	c := <-g.Ended()                     // one has an outcome
//	if g.Judged(c) { g.Win(c) }          // its response is the client's; the others are canceled
//	return g.Settle()                    // or there is none better than what there is
type Group struct {
	of      *Attempts
	body    *keptBody
	ended   chan *Candidate
	work    sync.WaitGroup // the attempts' goroutines
	all     []*Candidate
	running int
	// second is the one that has answered and has not been taken, and failed the last one that has failed.
	second, failed *Candidate
	winner         *Candidate
	count          *upstream.AttemptCounts
	ending         bool // no more begin
}

// Candidate is one attempt of a group.
type Candidate struct {
	Attempts
	source   source
	hedge    bool // it began since others were slow
	judged   bool
	panicked bool
	closed   bool
}

// maxCandidates is how many attempts a group may have.
const maxCandidates = 16

// Group returns the group of attempts of an exchange whose request's body is kept for them up to a number of bytes; nil
// where the body is refused, and x has a response then. End has to be called.
func (a *Attempts) Group(keptBytes int) *Group {
	first := a.RequestPart()
	if first.Err != nil {
		a.fail(first.Err)
		return nil
	}
	a.x = a.Exchange
	a.Service.Locate(a.Exchange)
	g := &Group{
		of: a, body: newKeptBody(a.Exchange, first, keptBytes, a.Panics),
		ended: make(chan *Candidate, maxCandidates), count: &a.Service.Attempts,
	}
	a.group = g
	return g
}

// copies are pooled. What an attempt that has panicked has left is not used again.
var copies = sync.Pool{New: func() any { return new(exchange.Exchange) }}

// CopiesInUse counts the copies of exchanges that attempts have.
var CopiesInUse inuse.Counter

// Start begins an attempt, if possible with another endpoint than the one before has. It reports false where another
// one can't begin: the body is too long to be sent again, the exchange is over, or there is no endpoint.
func (g *Group) Start() bool {
	x := g.of.Exchange
	another := len(g.all) > 0
	switch {
	case g.ending || len(g.all) == maxCandidates:
		return false
	case another && !x.Deadline.IsZero() && !time.Now().Before(x.Deadline), another && g.body.gone():
		return false
	}
	c := &Candidate{}
	x.Tick()
	f := copies.Get().(*exchange.Exchange)
	CopiesInUse.Add(1)
	if !c.source.start(g.body, f, another) {
		g.count.TooLarge.Add(1)
		give(f)
		return false
	}
	x.Branch(f, &c.source)
	c.Attempts = Attempts{
		Exchange: f, Service: g.of.Service, Timeout: g.of.Timeout, Panics: g.of.Panics,
		Repeatable: g.of.Repeatable, Retries: g.of.Retries, ofGroup: true,
		HeadTimeout: g.of.HeadTimeout, DeadlineHeader: g.of.DeadlineHeader,
	}
	c.next, c.nextPermit = g.of.next, g.of.nextPermit
	g.of.next, g.of.nextPermit = nil, circuit.Permit{}
	c.tried = g.of.tried.Clone()
	x.Watch(cancelation{&c.source}) // it may have to wait for a place in the circuit
	if c.Choose() {
		g.of.tried.Add(c.Endpoint)
	} else if another {
		x.Unwatch(cancelation{&c.source})
		g.body.leave(&c.source)
		give(f)
		return false
	}
	g.all = append(g.all, c)
	g.running++
	g.work.Go(func() { c.run(g.ended) })
	return true
}

// give gives a copy back.
func give(f *exchange.Exchange) {
	f.Reset()
	copies.Put(f)
	CopiesInUse.Add(-1)
}

// run makes the attempt.
func (c *Candidate) run(ended chan<- *Candidate) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked, c.Outcome = true, Failed
			c.Panics.Caught("an attempt", c.Exchange.Route, v)
			c.Exchange.Fail(fault.Internal, "the gateway has failed")
			c.giveUp()
		}
		ended <- c
	}()
	if c.Send() {
		c.source.answered()
	}
}

// giveUp gives the connection up after a panic: what is broken may be what has to be cleaned up.
func (c *Candidate) giveUp() {
	defer func() {
		if v := recover(); v != nil {
			c.Panics.Caught("the end of an attempt", c.Exchange.Route, v)
			c.Conn = nil
		}
	}()
	c.discard()
}

// place returns a place in the circuit that an attempt holds whose response is not good; nil: none does.
func (g *Group) place() *circuit.Permit {
	for _, c := range g.all {
		if p := &c.result.Permit; c.Outcome == Answered && p.Passes() {
			return p
		}
	}
	return nil
}

// Running returns how many have no outcome yet.
func (g *Group) Running() int { return g.running }

// Ended returns the attempts that have come to an outcome, each once, to be given to Judged.
func (g *Group) Ended() <-chan *Candidate { return g.ended }

// Judged takes an attempt's outcome in, and reports whether there is a response, which is kept until Win or Settle.
func (g *Group) Judged(c *Candidate) bool {
	g.running--
	if c.Outcome == Answered {
		if g.second == nil {
			g.second = c
		}
		return true
	}
	g.body.leave(&c.source)
	if c.source.isCanceled() {
		return false // it is counted as that
	}
	c.judged, g.failed = true, c
	g.count.Failed.Add(1)
	return false
}

// Win makes an attempt's response the client's. The others are canceled, and have ended when it returns.
func (g *Group) Win(c *Candidate) {
	a := g.of
	g.winner = c
	g.endOthers()
	g.count.Won.Add(1)
	a.Exchange.TakeResponse(c.Exchange)
	a.Attempt, a.Tried = c.Attempt, a.Tried+c.Tried
	c.Attempt = Attempt{x: c.Exchange} // it is a's now
	a.Exchange.Endpoint = c.Exchange.Endpoint
	a.Exchange.Tick()
}

// Settle takes the best that there is where no attempt has won: a response that is not good, which it reports, or an
// error.
func (g *Group) Settle() bool {
	if g.second != nil {
		g.Win(g.second)
		return true
	}
	g.endOthers()
	g.stopBody()
	a := g.of
	a.Outcome = Failed
	switch c := g.failed; {
	case a.Exchange.Down.Gone() || c == nil:
		a.Exchange.Fail(fault.ClientClosed, "the client broke off")
	default:
		a.Exchange.Endpoint = c.Exchange.Endpoint
		a.Exchange.TakeResponse(c.Exchange)
	}
	g.finish()
	return false
}

// End cancels what nobody has taken: it does nothing after Win or Settle.
func (g *Group) End() {
	if g.winner == nil {
		g.endOthers()
		g.finish()
	}
}

// endOthers cancels all attempts but the winner, waits for their end, and gives back what they hold.
func (g *Group) endOthers() {
	g.ending = true
	for _, c := range g.all {
		if c != g.winner {
			c.source.cancel()
		}
	}
	g.work.Wait()
	g.running = 0
	for _, c := range g.all {
		if c == g.winner || c.closed {
			continue
		}
		g.of.Tried += c.Tried
		if g.winner != nil && c.Answered.IsZero() && !c.judged {
			c.learn(g.of.Exchange.Tick()) // it would have taken longer
		}
		if !c.judged {
			c.Outcome = Canceled
			g.count.Canceled.Add(1)
		}
		c.close(g)
	}
}

// close gives back what the candidate holds but its copy of the exchange, which may have the client's response.
func (c *Candidate) close(g *Group) {
	c.closed = true
	c.giveUp()
	g.body.leave(&c.source)
	g.of.Exchange.Unwatch(cancelation{&c.source})
}

// stopBody ends the reading of the request's body: nobody reads from the client's connection then.
func (g *Group) stopBody() {
	if g != nil {
		g.body.stop()
	}
}

// finish gives back all that the group holds. The exchange's response does not need it any more.
func (g *Group) finish() {
	if g == nil || g.of.group == nil {
		return
	}
	g.of.group = nil
	g.body.stop()
	for _, c := range g.all {
		if !c.closed {
			c.close(g)
		}
		if c.panicked {
			CopiesInUse.Add(-1)
			continue
		}
		give(c.Exchange)
	}
}
