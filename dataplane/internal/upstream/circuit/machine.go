package circuit

import (
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
)

// longestProbe is how long a circuit waits for the results of what tries the service. After that others may: those
// before them go on for long, or have been lost, and what they come to does not count any more.
const longestProbe = time.Minute

// leastAge is how old a new circuit is: more than the longest interval, so that no slot has a number below 0.
const leastAge = 2 * time.Hour

// machine is what all types of circuits have in common: the states, and the results that lead from one to another.
//
// Each state that is entered is a generation. A result counts in the generation that its attempt was admitted in.
type machine struct {
	born time.Time
	set  atomic.Pointer[counting]
	// gradient limits the attempts under way; nil: it does not.
	gradient atomic.Pointer[gradient]
	// word is the state, in its two lowest bits, and the generation. Every request reads it, and only transitions write.
	word atomic.Uint64
	// opened is when the circuit was opened, and opens how many times it has been opened without a rest; they are valid
	// while it is open. forcedUntil is valid while it is forced; 0: for ever. Times are in nanoseconds after born.
	opened, forcedUntil atomic.Int64
	opens               atomic.Int64
	// begun is when the generation began.
	begun atomic.Int64
	// inARow counts the failures since the last success. Successes write it only where it is not zero.
	inARow atomic.Int64
	// slot is that of the latest result. Nearly all others are in the same one.
	slot atomic.Uint32

	_        [64]byte
	rejected atomic.Uint64
	_        [56]byte
	inUse    places // attempts under way, where they are counted

	mu sync.Mutex // of transitions, and of what follows
	// admitted, succeeded and failed are those of the attempts that try the service.
	admitted, succeeded, failed, slow int
	rested                            int64 // when the circuit was closed
	to                                [4]uint64
	tell                              func(Change) // nil: nobody is told
	untold                            []Change
	sharing
}

// counting is what a circuit is told, with the results that are counted by them: the interval numbers the slots, and
// who counts with those of before must not have its numbers among the new ones.
type counting struct {
	*config.Circuit
	results rolling
}

func (m *machine) init(now time.Time) {
	m.born = now.Add(-leastAge)
	m.begun.Store(m.at(now))
}

func (m *machine) at(now time.Time) int64 { return int64(now.Sub(m.born)) }

func (m *machine) time(at int64) time.Time { return m.born.Add(time.Duration(at)) }

// Set implements Circuit.
func (m *machine) Set(set *config.Circuit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := &counting{Circuit: set}
	if old := m.set.Load(); old != nil && old.Interval == set.Interval {
		next.results = old.results
	} else {
		next.results = newRolling()
	}
	m.set.Store(next)
	m.adapt(set.Adaptive)
}

// slotOf returns the slot of a time. It divides only where the latest result was in another slot; a division is a third
// of what a result costs, see BenchmarkClosed.
func (m *machine) slotOf(at int64, set *counting) uint32 {
	length := int64(set.Interval) / slots
	slot := m.slot.Load()
	if uint64(at-int64(slot)*length) < uint64(length) {
		return slot
	}
	slot = uint32(at / length)
	m.slot.Store(slot)
	return slot
}

// Tell implements Circuit.
func (m *machine) Tell(f func(Change)) { m.tell = f }

// unlock gives the mutex back, and tells of the transitions that there were meanwhile.
func (m *machine) unlock() {
	list := m.untold
	m.untold = nil
	m.mu.Unlock()
	if m.tell != nil {
		for _, c := range list {
			m.tell(c)
		}
	}
}

// openTime returns how long the circuit is open.
func (m *machine) openTime(set *counting) int64 {
	d := set.Timeout
	for range min(m.opens.Load()-1, 32) {
		if d *= 2; d >= set.MaxTimeout {
			break
		}
	}
	return int64(min(d, set.MaxTimeout))
}

// admit decides on an attempt, and returns the generation that it belongs to.
func (m *machine) admit(now time.Time) (generation uint64, admitted bool) {
	word := m.word.Load()
	if State(word&3) == Closed {
		return word, true
	}
	if word = m.admitProbe(now); word == 0 {
		m.rejected.Add(1)
		return 0, false
	}
	return word, true
}

// begin admits who has a place in use, which is given back where the circuit is not closed. c is the machine's circuit.
func (m *machine) begin(c Circuit, now time.Time, shard uint32, p *Permit, at placed) Verdict {
	generation, ok := m.admit(now)
	if !ok {
		p.shard, p.placed = shard, at
		c.leave(p)
		return Open
	}
	p.take(c, generation, shard, at)
	return Admitted
}

// shut reports whether no attempt is let through, without a lock.
func (m *machine) shut(now time.Time) bool {
	switch State(m.word.Load() & 3) {
	case Opened:
		return m.at(now) < m.openUntil(m.set.Load())
	case Forced:
		until := m.forcedUntil.Load()
		return until == 0 || m.at(now) < until
	}
	return false
}

// admitProbe is admit where the circuit is not closed. It returns the generation, or 0 where the attempt is refused.
func (m *machine) admitProbe(now time.Time) uint64 {
	if m.shut(now) {
		return 0
	}
	m.mu.Lock()
	defer m.unlock()
	at, set := m.at(now), m.set.Load()
	switch State(m.word.Load() & 3) {
	case Closed:
		return m.word.Load()
	case Opened, Forced:
		if m.shut(now) {
			return 0
		}
		m.enter(HalfOpen, at, TimeOver)
	case HalfOpen:
		if m.admitted >= set.Probes && at >= m.begun.Load()+int64(max(longestProbe, set.Timeout)) {
			m.enter(HalfOpen, at, TimeOver)
		}
	}
	if m.admitted >= set.Probes {
		return 0
	}
	m.admitted++
	return m.word.Load()
}

// enter begins a generation. The mutex is held.
func (m *machine) enter(s State, at int64, why Reason) {
	before := State(m.word.Load() & 3)
	m.admitted, m.succeeded, m.failed, m.slow = 0, 0, 0, 0
	m.begun.Store(at)
	m.inARow.Store(0)
	if s != before {
		m.to[s]++
		if why != ByHand {
			m.untold = append(m.untold, Change{From: before, To: s, Reason: why})
		}
	}
	switch s {
	case Closed:
		m.rested = at
	case Opened:
		m.opened.Store(at)
	}
	m.word.Store((m.word.Load()>>2+1)<<2 | uint64(s))
	m.wake()
}

// open opens the circuit: for longer where it has not rested for an interval. The mutex is held.
func (m *machine) open(at int64, set *counting, why Reason) {
	if State(m.word.Load()&3) == Closed && at >= m.rested+int64(set.Interval) {
		m.opens.Store(0)
	}
	m.opens.Add(1)
	m.taken.Store(0)
	m.enter(Opened, at, why)
}

// count takes a result in.
func (m *machine) count(p *Permit, r *outcome.Result) {
	word := m.word.Load()
	if word != p.generation {
		return // what it says is of an earlier time
	}
	if State(word&3) == HalfOpen {
		m.countProbe(p, r)
		return
	}
	if !r.Telling() {
		return
	}
	set, at := m.set.Load(), m.at(r.Ended)
	failed, slow := r.Failed(), set.Slow > 0 && r.Took >= set.Slow
	slot := m.slotOf(at, set)
	set.results.add(slot, p.shard, failed, slow)
	if !failed {
		if m.inARow.Load() != 0 {
			m.inARow.Store(0)
		}
		if !slow {
			return
		}
	} else if n := m.inARow.Add(1); set.Consecutive > 0 && n >= int64(set.Consecutive) {
		m.trip(p, at, set, ConsecutiveFailures)
		return
	}
	if why := m.over(slot, set); why != "" {
		m.trip(p, at, set, why)
	}
}

// over returns why the results open the circuit; "": they do not.
func (m *machine) over(slot uint32, set *counting) Reason {
	total, failed, slow := set.results.sum(slot-slots+1, slot)
	switch {
	case total < uint64(set.Minimum):
	case failed > 0 && float64(failed) >= set.Threshold*float64(total):
		return ErrorThreshold
	case set.Slow > 0 && slow > 0 && float64(slow) >= set.SlowThreshold*float64(total):
		return SlowCalls
	}
	return ""
}

// trip opens a closed circuit, unless somebody else has.
func (m *machine) trip(p *Permit, at int64, set *counting, why Reason) {
	m.mu.Lock()
	defer m.unlock()
	if m.word.Load() == p.generation {
		m.open(at, set, why)
	}
}

// countProbe takes the result of an attempt in that tries the service. As long as the share of failures is below the
// threshold the others are waited for: a service that has always had some errors is not kept out for one of them.
func (m *machine) countProbe(p *Permit, r *outcome.Result) {
	m.mu.Lock()
	defer m.unlock()
	if m.word.Load() != p.generation {
		return
	}
	if !r.Telling() {
		m.admitted-- // another one gets its place
		return
	}
	set, at := m.set.Load(), m.at(r.Ended)
	if r.Failed() {
		m.failed++
	} else {
		m.succeeded++
	}
	if set.Slow > 0 && r.Took >= set.Slow {
		m.slow++
	}
	total := m.failed + m.succeeded
	switch {
	case m.failed > 0 && float64(m.failed) >= set.Threshold*float64(total),
		m.slow > 0 && float64(m.slow) >= set.SlowThreshold*float64(total):
		m.open(at, set, TriesFailed)
	case total >= set.Probes:
		m.close(at, TriesSucceeded)
	}
}

// close closes the circuit. Results from before do not count any more. The mutex is held.
func (m *machine) close(at int64, why Reason) {
	m.set.Load().results.reset()
	m.enter(Closed, at, why)
}

// Reset implements Circuit.
func (m *machine) Reset(now time.Time) {
	m.mu.Lock()
	defer m.unlock()
	m.opens.Store(0)
	if g := m.gradient.Load(); g != nil {
		m.gradient.Store(newGradient(g.set))
	}
	m.close(m.at(now), ByHand)
}

// ForceOpen implements Circuit.
func (m *machine) ForceOpen(now, until time.Time) {
	m.mu.Lock()
	defer m.unlock()
	at := int64(0)
	if !until.IsZero() {
		at = max(m.at(until), 1)
	}
	m.forcedUntil.Store(at)
	m.opens.Store(0)
	m.enter(Forced, m.at(now), ByHand)
}

// RetryAfter implements Circuit.
func (m *machine) RetryAfter(now time.Time) time.Duration {
	at, until := m.at(now), int64(0)
	switch State(m.word.Load() & 3) {
	case Opened:
		until = m.openUntil(m.set.Load())
	case Forced:
		if until = m.forcedUntil.Load(); until == 0 {
			until = at + int64(m.set.Load().Timeout)
		}
	}
	return max(time.Duration(until-at), time.Second)
}

// Status implements Circuit.
func (m *machine) Status(now time.Time) Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	set, at := m.set.Load(), m.at(now)
	s := Status{State: State(m.word.Load() & 3), Since: m.time(m.begun.Load()), Rejected: m.rejected.Load(), To: m.to,
		Concurrent: int(m.inUse.count()), Limit: m.most()}
	if g := m.gradient.Load(); g != nil {
		s.MinRTT = time.Duration(g.minRTT.Load())
	}
	until := int64(0)
	switch s.State {
	case Closed:
		slot := m.slotOf(at, set)
		s.Requests, s.Failed, s.Slow = set.results.sum(slot-slots+1, slot)
	case HalfOpen:
		s.Requests, s.Failed, s.Slow = uint64(m.failed+m.succeeded), uint64(m.failed), uint64(m.slow)
	case Opened:
		until = m.openUntil(set)
	case Forced:
		until = m.forcedUntil.Load()
	}
	switch {
	case until != 0 && at >= until: // the next attempt, whenever it comes, is the first that is let through
		s.State, s.Since = HalfOpen, m.time(until)
	case until != 0:
		s.Until = m.time(until)
	}
	return s
}

// core returns what the types have in common.
func (m *machine) core() *machine { return m }

// inherit takes over what was forced by hand, and what has been counted.
func (m *machine) inherit(old *machine) {
	old.mu.Lock()
	to, word, begun, until := old.to, old.word.Load(), m.at(old.time(old.begun.Load())), old.forcedUntil.Load()
	if until != 0 {
		until = m.at(old.time(until))
	}
	old.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rejected.Store(old.rejected.Load())
	m.to = to
	if g, before := m.gradient.Load(), old.gradient.Load(); g != nil && before != nil {
		g.inherit(before, int64(old.born.Sub(m.born)))
	}
	if State(word&3) == Forced {
		m.forcedUntil.Store(until)
		m.enter(Forced, begun, ByHand)
		m.to = to
	}
}
