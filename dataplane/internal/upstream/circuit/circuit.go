// Package circuit keeps requests from a service that fails, and lets a few of them try it again after a while. It knows
// results and times, and neither requests nor endpoints.
package circuit

import (
	"time"

	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
)

// Circuit decides whether a service is asked. It is safe for concurrent use. While it is closed, Admit and the methods
// of permits take no lock and do not allocate.
type Circuit interface {
	// Admit asks for a place for one attempt, which p has where the verdict is Admitted: its Ended is called then, once,
	// with what came of the attempt, and its Leave after that. shard spreads counters.
	Admit(now time.Time, shard uint32, p *Permit) Verdict
	// RetryAfter is how long a client that was not admitted is to wait, at least a second.
	RetryAfter(now time.Time) time.Duration
	// Set changes the settings, which hold at once. The type is the one that the circuit was made with.
	Set(*config.Circuit)
	// Reset closes the circuit and forgets all results.
	Reset(now time.Time)
	// ForceOpen opens the circuit until a time, or until it is reset where that is zero.
	ForceOpen(now, until time.Time)
	// Tell has f called after each transition that nobody has made by hand, by whoever has caused it. It is called
	// before the circuit is used.
	Tell(f func(Change))
	// Status tells how the circuit is: half-open as soon as the time is over for which it was open.
	Status(now time.Time) Status
	Sharer

	admit(now time.Time) (generation uint64, admitted bool)
	ended(*Permit, *outcome.Result)
	leave(*Permit)
	stream(*Permit)
	core() *machine
}

// New makes the circuit of a service: previous, where that has the same type, with these settings. Otherwise what was
// forced by hand, and the counts of what happened, go on in the new one. previous may be nil.
func New(set *config.Circuit, previous Circuit, now time.Time) Circuit {
	var next Circuit
	switch set.Type {
	case config.HystrixCircuit:
		if c, ok := previous.(*hystrix); ok {
			next = c
			break
		}
		next = newHystrix(now)
	default:
		if c, ok := previous.(*window); ok {
			next = c
			break
		}
		next = newWindow(now)
	}
	next.Set(set)
	if previous != nil && previous != next {
		next.core().inherit(previous.core())
	}
	return next
}

// Verdict is what a circuit decides.
type Verdict uint8

const (
	// Admitted lets the attempt begin.
	Admitted Verdict = iota
	// Open refuses it: the service fails, or what tries it again is under way.
	Open
	// Busy has it wait: as many as may be are under way, see Queue.
	Busy
	// Full refuses it: as many as may wait do.
	Full
)

// Queuing is a circuit that lets attempts wait.
type Queuing interface {
	Circuit
	// Queue lets an attempt wait that was told Busy. It has a place at once (Admitted), waits (Busy), or may not (Full).
	Queue(*Waiter) Verdict
	// Unqueue ends a wait, and reports whether the attempt has got its place before.
	Unqueue(*Waiter) bool
	// Enter is Admit for an attempt that has got its place so.
	Enter(now time.Time, shard uint32, p *Permit) Verdict
}

// Permit is an attempt's place in a circuit. The zero value has none, and neither has one that has left. A copy takes
// its place; only one of them is used.
type Permit struct {
	of         Circuit
	generation uint64
	shard      uint32
	told       bool
	placed     placed // where it is counted
	passed     bool   // another one has the place
}

// take has an attempt take a place. Each field is set by itself: a copy of them all would cost several times as much.
func (p *Permit) take(of Circuit, generation uint64, shard uint32, at placed) {
	p.of, p.generation, p.shard, p.told, p.placed = of, generation, shard, false, at
}

// Held reports whether there is a place.
func (p *Permit) Held() bool { return p.of != nil }

// Passes reports whether there is a place that another attempt may take over. p may be nil.
func (p *Permit) Passes() bool { return p != nil && p.of != nil && !p.passed }

// Pass asks a circuit whether another attempt may begin, which has the place then; p is still told what comes of its
// own attempt. It reports false where the place is in another circuit: nothing was asked then.
func (p *Permit) Pass(c Circuit, now time.Time, next *Permit) (v Verdict, same bool) {
	if p.of != c {
		return Open, false
	}
	generation, ok := c.admit(now)
	if !ok {
		return Open, true
	}
	next.take(c, generation, p.shard, p.placed)
	p.passed = true
	return Admitted, true
}

// Ended tells the circuit what came of the attempt. Only the first call counts.
func (p *Permit) Ended(r *outcome.Result) {
	if p.of != nil && !p.told {
		p.told = true
		p.of.ended(p, r)
	}
}

// Stream tells the circuit that the response, of which Ended was told, goes on for as long as something moves: it does
// not count for an adaptive limit any more, which is one of what the service works at. The place in the circuit stays.
func (p *Permit) Stream() {
	if p.of != nil && !p.passed {
		p.of.stream(p)
	}
}

// Leave gives the place back. An attempt whose end was not told has said nothing.
func (p *Permit) Leave() {
	if p.of == nil {
		return
	}
	if !p.told {
		p.Ended(&outcome.Result{})
	}
	if !p.passed {
		p.of.leave(p)
	}
	p.of, p.passed = nil, false
}

// State is what a circuit does with requests.
type State uint8

const (
	// Closed lets all through.
	Closed State = iota
	// Opened lets none through.
	Opened
	// HalfOpen lets a few through, to try whether the service works again.
	HalfOpen
	// Forced lets none through, since somebody has said so.
	Forced
)

var states = [...]string{"closed", "open", "half-open", "forced-open"}

// String returns the state's name.
func (s State) String() string { return states[s] }

// Change is a transition.
type Change struct {
	From, To State
	Reason   Reason
}

// Reason is why a circuit has changed its state.
type Reason string

// The reasons.
const (
	ConsecutiveFailures Reason = "consecutive_failures"
	ErrorThreshold      Reason = "error_threshold"
	SlowCalls           Reason = "slow_call"
	// TimeOver is that the time for which it was open is over, TriesFailed and TriesSucceeded what came of those that
	// were let through then.
	TimeOver       Reason = "timeout"
	TriesFailed    Reason = "tries_failed"
	TriesSucceeded Reason = "tries_succeeded"
	ByHand         Reason = "by_hand"
	// OtherNode is that a node with which it is shared has opened its circuit, or closed it before the time was over.
	OtherNode Reason = "other_node"
)

// Status is how a circuit is.
type Status struct {
	State State
	// Since is when it came to that.
	Since time.Time
	// Until is when it is tried again, or when it is not forced any more; zero: it is not known.
	Until time.Time
	// Requests, Failed and Slow are the results that count now.
	Requests, Failed, Slow uint64
	// Rejected counts the attempts that it has refused.
	Rejected uint64
	// To counts the transitions, by the state that they led to.
	To [4]uint64
	// Concurrent is how many attempts are under way, and Pending how many wait, where that is limited.
	Concurrent, Pending int
	// Limit is how many may be under way now; 0: any number. MinRTT is the time of a response with next to no load, by
	// which an adaptive limit goes; 0: it is not known.
	Limit  int
	MinRTT time.Duration
	// P50, P95 and P99 are the times within which that share of the latest responses came; 0: too few are known.
	P50, P95, P99 time.Duration
}
