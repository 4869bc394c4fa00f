package ratelimit

import (
	"errors"
	"time"

	"gateway.internal/dataplane/internal/ratelimit/remote"
	"gateway.internal/shared/ratelimit"
)

// A lease is what a node has taken of a key ahead, in Redis: a hundredth of the limit at most. Requests take from it
// without waiting; the next one is asked for when half is used. Where Redis had nothing, nobody asks for a while, and
// requests are refused at once. So in any time at most a lease for each node more passes than the limit says.
//
// The state of a key is one word: 22 bits of how much is left, 39 bits of until when that is valid (milliseconds of the
// node's clock), a bit that Redis had less than was asked for, and one that it is being asked.
const (
	leaseBits    = 22
	leaseMask    = 1<<leaseBits - 1
	leaseTime    = 1<<39 - 1
	leaseDry     = 1 << 61
	leaseAsking  = 1 << 62
	maxLease     = 4_000_000
	leaseLasts   = 10 * time.Second // of token buckets; of windows until these end
	leasedMeters = ratelimit.Algorithm(100)
)

// leaseMeter reads states of leases for a table.
var leaseMeter = meter{algorithm: leasedMeters, window: 1, settings: &ratelimit.Settings{}}

type lease struct {
	left        int64
	until       int64
	dry, asking bool
}

func leaseOf(state uint64, at int64) (l lease) {
	l.until = int64(state >> leaseBits & leaseTime)
	if l.until <= at {
		return lease{}
	}
	l.left, l.dry, l.asking = int64(state&leaseMask), state&leaseDry != 0, state&leaseAsking != 0
	return l
}

func (l *lease) state() uint64 {
	s := uint64(l.left) | uint64(l.until&leaseTime)<<leaseBits
	if l.dry {
		s |= leaseDry
	}
	if l.asking {
		s |= leaseAsking
	}
	return s
}

// leaseSize returns how much a node takes ahead at a time.
func (l *Limit) leaseSize() int64 { return min(l.Settings.Lease(), maxLease) }

func (n *Node) leaseMoment(now time.Time) moment {
	return moment{at: max(now.Sub(n.base).Milliseconds(), 1)}
}

// says is what a lease says of a request.
type says uint8

const (
	saysPass says = iota
	saysRefuse
	saysAsk // Redis has to be asked
)

// say decides by what a lease has.
func (l *lease) say(at, cost int64) (says, decision) {
	switch {
	case l.left >= cost:
		return saysPass, decision{passes: true, left: l.left - cost}
	case l.left == 0 && l.dry:
		return saysRefuse, decision{wait: (l.until - at) * int64(time.Millisecond)}
	}
	return saysAsk, decision{left: l.left}
}

// atOnce is the most that may ever pass at once.
func (l *Limit) atOnce() int64 {
	if l.Algorithm == ratelimit.TokenBucket {
		return l.Burst
	}
	return l.Limit
}

// tooMuch is what is said of a cost that there can never be: nothing is asked of Redis for it, which would have the
// node take all that is there.
func (l *Limit) tooMuch() decision { return decision{wait: int64(time.Minute)} }

// lookLease is what the lease of a key says of a request, of which it takes nothing.
func (l *Limit) lookLease(tag uint64, now time.Time, cost int64) (says, decision) {
	if cost > l.atOnce() {
		return saysRefuse, l.tooMuch()
	}
	at := l.node.leaseMoment(now)
	has := leaseOf(l.leases.load(tag), at.at)
	return has.say(at.at, cost)
}

// takeLease takes a cost of the lease of a key. low tells that the caller has to ask for the next one.
func (l *Limit) takeLease(tag uint64, now time.Time, cost int64) (s says, d decision, low bool) {
	if cost > l.atOnce() {
		return saysRefuse, l.tooMuch(), false
	}
	at := l.node.leaseMoment(now)
	s, d = saysAsk, decision{}
	l.changeLease(tag, &at, func(has lease) (lease, bool) {
		s, d = has.say(at.at, cost)
		if low = false; s != saysPass {
			return has, false
		}
		has.left -= cost
		if !has.asking && !has.dry && has.left < l.leaseSize()/2 {
			has.asking, low = true, true
		}
		return has, true
	})
	return s, d, low
}

// giveLease gives back what was taken of a lease, where it is still valid.
func (l *Limit) giveLease(tag uint64, now time.Time, cost int64) {
	at := l.node.leaseMoment(now)
	l.changeLease(tag, &at, func(has lease) (lease, bool) {
		if has.until == 0 {
			return has, false
		}
		if has.left == 0 && has.dry { // it is until Redis is asked, which is too short
			has.until, has.dry = at.at+l.leaseFor(0), false
		}
		has.left = min(has.left+cost, leaseMask)
		return has, true
	})
}

// leaseFor returns for how many milliseconds a lease is valid of which Redis has said how long its window lasts.
func (l *Limit) leaseFor(wait time.Duration) int64 {
	if l.Algorithm != ratelimit.TokenBucket && wait > 0 {
		return max(wait.Milliseconds(), 1)
	}
	if l.Algorithm != ratelimit.TokenBucket {
		return 1
	}
	return leaseLasts.Milliseconds()
}

// deposit takes over what Redis has said.
func (l *Limit) deposit(tag uint64, now time.Time, asked int64, a remote.Answer) {
	at := l.node.leaseMoment(now)
	l.changeLease(tag, &at, func(has lease) (lease, bool) {
		has.left = min(has.left+a.Took, leaseMask)
		has.asking, has.dry = false, a.Took < asked
		switch {
		case has.left == 0:
			has.until = at.at + max(min(a.Wait, time.Minute).Milliseconds(), 1)
		case a.Took > 0:
			has.until = at.at + l.leaseFor(a.Wait)
		}
		return has, true
	})
}

// unasked says that Redis is not being asked any more.
func (l *Limit) unasked(tag uint64, now time.Time) {
	at := l.node.leaseMoment(now)
	l.changeLease(tag, &at, func(has lease) (lease, bool) {
		was := has.asking
		has.asking = false
		return has, was
	})
}

// changeLease changes the lease of a key, if f says so.
func (l *Limit) changeLease(tag uint64, at *moment, f func(lease) (lease, bool)) {
	for {
		s := l.leases.place(tag, &leaseMeter, at)
		if s == nil {
			return
		}
		for {
			state := s.state.Load()
			if state&frozen != 0 {
				l.leases.await(tag)
				break
			}
			has, changes := f(leaseOf(state, at.at))
			if !changes {
				return
			}
			if s.tag.Load() != tag {
				break
			}
			if s.state.CompareAndSwap(state, has.state()) {
				return
			}
		}
	}
}

// flight is a question about a key that many may wait for.
type flight struct {
	done chan struct{}
	err  error
}

var errNoRedis = errors.New("the node has no Redis: store redis needs --redis")

// refill asks Redis for the next lease of a key, unless somebody does already.
func (l *Limit) refill(tag uint64, key []byte, cost int64) *flight {
	st := l.ref.Value()
	st.refilling.Lock()
	defer st.refilling.Unlock()
	if f := st.flights[tag]; f != nil {
		return f
	}
	f := &flight{done: make(chan struct{})}
	if st.flights == nil {
		st.flights = map[uint64]*flight{}
	}
	st.flights[tag] = f
	name := l.redisKey(key)
	l.node.asking.Go(func() {
		f.err = l.fetch(tag, name, cost)
		st.refilling.Lock()
		delete(st.flights, tag)
		st.refilling.Unlock()
		close(f.done)
	})
	return f
}

// fetch asks for as much as the lease of a key lacks.
func (l *Limit) fetch(tag uint64, name string, cost int64) error {
	now := time.Now()
	at := l.node.leaseMoment(now)
	has := leaseOf(l.leases.load(tag), at.at)
	asked := max(l.leaseSize(), cost) - has.left
	if asked <= 0 {
		return nil
	}
	q := l.question(name, asked, remote.Some, now)
	answers, err := l.node.remote.Ask(l.Timeout, []remote.Question{q})
	now = time.Now()
	if err != nil {
		l.unasked(tag, now)
		return err
	}
	l.deposit(tag, now, asked, answers[0])
	return nil
}
