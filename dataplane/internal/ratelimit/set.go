package ratelimit

import (
	"hash/maphash"
	"strconv"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/ratelimit/remote"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/ratelimit"
)

// Set is all limits that hold for a request together. It is immutable, and shared; nil has none.
type Set struct {
	limits  []*Limit
	shared  bool   // a limit is kept by all nodes together
	headers bool   // a limit says what is left
	policy  string // RateLimit-Policy
}

// NewSet returns the limits of a route's policy and of its service's policy together; nil: there are none. A limit of
// the route takes the place of one of the same name of the service.
func NewSet(route, service []*Limit) *Set {
	s := &Set{}
	for _, l := range service {
		if !named(route, l.Name) {
			s.limits = append(s.limits, l)
		}
	}
	s.limits = append(s.limits, route...)
	if len(s.limits) == 0 {
		return nil
	}
	for _, l := range s.limits {
		s.shared = s.shared || l.Redis
		if l.Headers && !l.DryRun {
			if s.headers {
				s.policy += ", "
			}
			s.headers = true
			s.policy += l.policyItem
		}
	}
	return s
}

func named(list []*Limit, name string) bool {
	for _, l := range list {
		if l.Name == name {
			return true
		}
	}
	return false
}

// Taken is what the limits of a set have said of one exchange, and what it has taken of them. It belongs to the
// exchange's goroutine.
type Taken struct {
	set     *Set
	entries []entry
	refused int // which limit did not let it pass; -1: none
	// unavailable tells that it was refused since Redis could not be asked.
	unavailable bool
	told        bool      // what is left has been said
	shares      int       // how many more than one are going to end it
	asked       time.Time // when Redis was asked about strict limits
	keys        []byte    // of all limits, one after the other
}

// entry is one limit's.
type entry struct {
	limit *Limit
	tag   uint64
	at    moment
	cost  int64
	said  decision
	taken bool
	how   way
	// key is where the key begins in keys, and end where it ends.
	key, end int
}

// way is where a cost was taken.
type way uint8

const (
	fromLocal way = iota
	fromLease
	fromRedis
)

var takens = sync.Pool{New: func() any { return &Taken{} }}

// Take takes what the exchange needs of all limits, or nothing where one of them does not let it pass: the exchange
// has a response then, and the verdict is exchange.Stop. What is returned is to be ended by End, whatever the verdict.
//
// Where Redis has to be asked in a loop, nothing was taken: the verdict is exchange.Later, and there is nothing to end.
func (s *Set) Take(x *exchange.Exchange) (*Taken, exchange.Verdict) {
	t := takens.Get().(*Taken)
	t.set, t.refused, t.unavailable, t.told, t.shares = s, -1, false, false, 0
	for _, l := range s.limits {
		e := entry{limit: l, at: l.moment(x.Now), cost: l.Cost}
		if l.CostHeader != "" {
			e.cost = costOf(x, l)
		}
		e.key = len(t.keys)
		t.keys = l.appendKey(t.keys, x)
		e.end = len(t.keys)
		e.tag = tagOf(maphash.Bytes(l.node.seed, t.keyOf(&e)))
		t.entries = append(t.entries, e)
	}
	if s.shared && x.InLoop && t.lookAll(x.Now) && t.waits(x.Now) {
		t.End()
		return nil, exchange.Later
	}
	t.refused = -1
	if t.takeAll(x) {
		t.tryDry(x.Now)
		return t, exchange.Continue
	}
	t.refuse(x)
	return t, exchange.Stop
}

func (t *Taken) keyOf(e *entry) []byte { return t.keys[e.key:e.end] }

// takeAll takes what is needed of all limits, or nothing: first of those that the node knows of, and of those that
// Redis is asked about where these let it pass.
func (t *Taken) takeAll(x *exchange.Exchange) bool {
	if len(t.entries) > 1 && !t.lookAll(x.Now) {
		return false
	}
	if t.takeLocal() && (!t.set.shared || t.takeLeased(x) && t.takeStrict(x)) {
		return true
	}
	t.giveBack(x)
	return false
}

// takeLocal takes what is needed of the node's own limits. It reports whether all had it.
func (t *Taken) takeLocal() bool {
	for i := range t.entries {
		e := &t.entries[i]
		if e.limit.DryRun || e.limit.Redis {
			continue
		}
		e.said = e.limit.take(e.tag, &e.at, e.cost)
		if e.taken = e.said.passes; !e.taken {
			t.refused = i
			return false
		}
	}
	return true
}

// lookAll reports whether all limits would let the exchange pass, as far as the node knows.
func (t *Taken) lookAll(now time.Time) bool {
	for i := range t.entries {
		e := &t.entries[i]
		switch {
		case e.limit.DryRun, e.limit.strict():
			continue
		case e.limit.leased():
			s, d := e.limit.lookLease(e.tag, now, e.cost)
			if e.said = d; s != saysRefuse {
				continue
			}
		default:
			e.said = e.limit.look(e.tag, &e.at, e.cost)
		}
		if !e.said.passes && (t.refused < 0 || e.said.wait > t.entries[t.refused].said.wait) {
			t.refused = i
		}
	}
	return t.refused < 0
}

// tryDry has the limits that only count say what they would.
func (t *Taken) tryDry(now time.Time) {
	for i := range t.entries {
		e := &t.entries[i]
		switch {
		case !e.limit.DryRun || e.limit.strict():
			continue
		case e.limit.leased():
			t.tryLease(e, now)
			continue
		}
		e.said = e.limit.take(e.tag, &e.at, e.cost)
		if e.taken = e.said.passes; !e.taken {
			e.limit.count.wouldRefuse.Add(1)
		}
	}
}

// tryLease has a lease say what it would. Nothing is waited for: what the node does not know passes.
func (t *Taken) tryLease(e *entry, now time.Time) {
	s, d, low := e.limit.takeLease(e.tag, now, e.cost)
	if e.said, e.taken, e.how = d, d.passes, fromLease; s == saysRefuse {
		e.limit.count.wouldRefuse.Add(1)
	}
	if (low || s == saysAsk) && !e.limit.node.down() {
		e.limit.refill(e.tag, t.keyOf(e), e.cost)
	}
}

// giveBack gives back all that was taken; in Redis soon, without waiting for it.
func (t *Taken) giveBack(x *exchange.Exchange) {
	var strict []remote.Question
	var node *Node
	for i := range t.entries {
		e := &t.entries[i]
		if !e.taken {
			continue
		}
		e.taken = false
		switch e.how {
		case fromLease:
			e.limit.giveLease(e.tag, x.Now, e.cost)
		case fromRedis:
			q := e.limit.question(e.limit.redisKey(t.keyOf(e)), e.cost, remote.All, t.asked)
			q.Taken = t.asked
			strict, node = append(strict, q), e.limit.node
		default:
			e.limit.give(e.tag, &e.at, e.cost)
		}
	}
	if node != nil {
		node.remote.Give(strict)
	}
}

// refuse answers an exchange that a limit does not let pass.
func (t *Taken) refuse(x *exchange.Exchange) {
	if t.unavailable {
		denyUnavailable(x)
		return
	}
	for i := range t.entries { // what they say is of after it has passed
		if e := &t.entries[i]; e.said.passes {
			e.said.left += e.cost
		}
	}
	e := &t.entries[t.refused]
	e.limit.count.refused.Add(1)
	x.Fail(fault.RateLimited, e.limit.refusal)
	if x.RPC == exchange.NoRPC {
		begin := len(x.Texts)
		x.Texts = strconv.AppendInt(x.Texts, max(seconds(e.said.wait), 1), 10)
		x.Response.Header.Add("Retry-After", x.Text(begin))
	}
}

// seconds rounds nanoseconds up.
func seconds(ns int64) int64 { return (ns + int64(time.Second) - 1) / int64(time.Second) }

// Refused reports whether a limit of the set has not let the exchange pass.
func (t *Taken) Refused() bool { return t.refused >= 0 }

// Share tells that End is going to be called once more.
func (t *Taken) Share() { t.shares++ }

// End ends what limits count for as long as it is under way, when it is called for the last time. t is not used any
// more then.
func (t *Taken) End() {
	if t == nil {
		return
	}
	if t.shares--; t.shares >= 0 {
		return
	}
	for i := range t.entries {
		if e := &t.entries[i]; e.taken && e.limit.Algorithm == ratelimit.Concurrency {
			e.limit.give(e.tag, &e.at, e.cost)
		}
	}
	clear(t.entries)
	t.entries, t.set = t.entries[:0], nil
	if t.keys = t.keys[:0]; cap(t.keys) > maxKeptKey {
		t.keys = nil
	}
	takens.Put(t)
}

// maxKeptKey is how much memory for keys is kept.
const maxKeptKey = 4 << 10
