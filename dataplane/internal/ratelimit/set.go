package ratelimit

import (
	"hash/maphash"
	"strconv"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/ratelimit"
)

// Set is all limits that hold for a request together. It is immutable, and shared; nil has none.
type Set struct {
	limits  []*Limit
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
	key     []byte
}

// entry is one limit's.
type entry struct {
	limit *Limit
	tag   uint64
	at    moment
	cost  int64
	said  decision
	taken bool
}

var takens = sync.Pool{New: func() any { return &Taken{} }}

// Take takes what the exchange needs of all limits, or nothing where one of them does not let it pass: the exchange
// has a response then, and the verdict is exchange.Stop. What is returned is to be ended by End, whatever the verdict.
func (s *Set) Take(x *exchange.Exchange) (*Taken, exchange.Verdict) {
	t := takens.Get().(*Taken)
	t.set, t.refused = s, -1
	for _, l := range s.limits {
		e := entry{limit: l, at: l.moment(x.Now), cost: l.Cost}
		if l.CostHeader != "" {
			e.cost = costOf(x, l)
		}
		t.key = l.appendKey(t.key[:0], x)
		e.tag = tagOf(maphash.Bytes(l.node.seed, t.key))
		t.entries = append(t.entries, e)
	}
	if t.takeAll() {
		t.tryDry()
		return t, exchange.Continue
	}
	t.refuse(x)
	return t, exchange.Stop
}

// takeAll takes what is needed of all limits, or nothing.
func (t *Taken) takeAll() bool {
	if len(t.entries) > 1 && !t.lookAll() {
		return false
	}
	for i := range t.entries {
		e := &t.entries[i]
		if e.limit.DryRun {
			continue
		}
		e.said = e.limit.take(e.tag, &e.at, e.cost)
		if e.taken = e.said.passes; !e.taken {
			t.refused = i
			t.giveBack()
			return false
		}
	}
	return true
}

// lookAll reports whether all limits would let the exchange pass.
func (t *Taken) lookAll() bool {
	for i := range t.entries {
		e := &t.entries[i]
		if e.limit.DryRun {
			continue
		}
		e.said = e.limit.look(e.tag, &e.at, e.cost)
		if !e.said.passes && (t.refused < 0 || e.said.wait > t.entries[t.refused].said.wait) {
			t.refused = i
		}
	}
	return t.refused < 0
}

// tryDry has the limits that only count say what they would.
func (t *Taken) tryDry() {
	for i := range t.entries {
		e := &t.entries[i]
		if !e.limit.DryRun {
			continue
		}
		e.said = e.limit.take(e.tag, &e.at, e.cost)
		if e.taken = e.said.passes; !e.taken {
			e.limit.count.wouldRefuse.Add(1)
		}
	}
}

// giveBack gives back all that was taken.
func (t *Taken) giveBack() {
	for i := range t.entries {
		if e := &t.entries[i]; e.taken {
			e.taken = false
			e.limit.give(e.tag, &e.at, e.cost)
		}
	}
}

// refuse answers an exchange that a limit does not let pass.
func (t *Taken) refuse(x *exchange.Exchange) {
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

// GiveBack gives back what the exchange has taken, since another limit did not let it pass.
func (t *Taken) GiveBack() {
	if t != nil {
		t.giveBack()
	}
}

// End ends what limits count for as long as it is under way. t is not used any more.
func (t *Taken) End() {
	if t == nil {
		return
	}
	for i := range t.entries {
		if e := &t.entries[i]; e.taken && e.limit.Algorithm == ratelimit.Concurrency {
			e.limit.give(e.tag, &e.at, e.cost)
		}
	}
	clear(t.entries)
	t.entries, t.set = t.entries[:0], nil
	if cap(t.key) > maxKeptKey {
		t.key = nil
	}
	takens.Put(t)
}

// maxKeptKey is how much memory for keys is kept.
const maxKeptKey = 4 << 10
