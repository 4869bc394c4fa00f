package ratelimit

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/ratelimit/remote"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/ratelimit"
)

// keyPrefix is what all keys in Redis begin with.
const keyPrefix = "gateway:limit:"

// strict and leased tell how a limit is kept by all nodes together.
func (l *Limit) strict() bool { return l.Redis && !l.Leased }
func (l *Limit) leased() bool { return l.Redis && l.Leased }

// redisPrefix returns what the names of a limit's keys begin with. Names and values of requests are hashed: they may be
// long, and are nobody's business who can read Redis.
func redisPrefix(k *storeKey) string {
	var b []byte
	for _, s := range []string{
		k.owner.Policy, k.owner.Middleware, k.limit, k.algorithm.String(), k.window.String(), k.zone,
		string('0' + rune(k.calendar)),
	} {
		b = appendPart(b, s)
	}
	sum := sha256.Sum256(b)
	return keyPrefix + hex.EncodeToString(sum[:8]) + ":"
}

// redisKey returns the name of a key. Its hash is what Redis Cluster chooses the node by.
func (l *Limit) redisKey(key []byte) string {
	sum := sha256.Sum256(key)
	return l.prefix + "{" + hex.EncodeToString(sum[:16]) + "}"
}

// question returns what is asked about a key.
func (l *Limit) question(name string, cost int64, how remote.How, now time.Time) remote.Question {
	q := remote.Question{
		Key: name, Algorithm: l.Algorithm.String(), Limit: l.Limit, Burst: l.Burst, Window: l.Window, Cost: cost, How: how,
	}
	if l.Calendar != ratelimit.NoCalendar {
		q.From, q.Until = l.Period(now)
	}
	return q
}

// down reports whether Redis can't be asked now.
func (n *Node) down() bool { return n.remote == nil || n.remote.Down() }

// waits reports whether a limit has to wait for Redis.
func (t *Taken) waits(now time.Time) bool {
	for i := range t.entries {
		e := &t.entries[i]
		switch l := e.limit; {
		case !l.Redis || l.node.down():
		case l.strict():
			return true
		default:
			if s, _ := l.lookLease(e.tag, now, e.cost); s == saysAsk && !l.DryRun {
				return true
			}
		}
	}
	return false
}

// takeLeased takes what is needed of leases. It reports whether all had it.
func (t *Taken) takeLeased(x *exchange.Exchange) bool {
	for i := range t.entries {
		e := &t.entries[i]
		if !e.limit.leased() || e.limit.DryRun {
			continue
		}
		if t.takeLease(x, e); !e.said.passes {
			t.refused = i
			return false
		}
	}
	return true
}

// askedTimes is how often a request waits for a lease that others may use up before it.
const askedTimes = 3

func (t *Taken) takeLease(x *exchange.Exchange, e *entry) {
	l, now := e.limit, x.Now
	for range askedTimes {
		s, d, low := l.takeLease(e.tag, now, e.cost)
		e.said = d
		if low {
			if l.node.down() {
				l.unasked(e.tag, now)
			} else {
				l.refill(e.tag, t.keyOf(e), e.cost)
			}
		}
		switch {
		case s == saysPass:
			e.taken, e.how = true, fromLease
			return
		case s == saysRefuse:
			return
		case l.node.down():
			t.withoutStore(e)
			return
		}
		if err := wait(l.refill(e.tag, t.keyOf(e), e.cost), within(x, l.Timeout)); err != nil {
			t.withoutStore(e)
			return
		}
		now = x.Tick()
	}
	e.said = decision{wait: int64(time.Second)}
}

// within returns how long an exchange may wait, of a time.
func within(x *exchange.Exchange, limit time.Duration) time.Duration {
	if x.Deadline.IsZero() {
		return limit
	}
	return max(min(limit, time.Until(x.Deadline)), time.Millisecond)
}

func wait(f *flight, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.err
	case <-timer.C:
		return remote.ErrLate
	}
}

// takeStrict asks Redis about all strict limits together. It reports whether all let the exchange pass.
func (t *Taken) takeStrict(x *exchange.Exchange) bool {
	var questions []remote.Question
	var of []*entry
	var node *Node
	limit := time.Duration(0)
	for i := range t.entries {
		e := &t.entries[i]
		if !e.limit.strict() {
			continue
		}
		how := remote.All
		if e.limit.DryRun {
			how = remote.Dry
		}
		if node = e.limit.node; limit == 0 || e.limit.Timeout < limit {
			limit = e.limit.Timeout
		}
		questions = append(questions, e.limit.question(e.limit.redisKey(t.keyOf(e)), e.cost, how, x.Now))
		of = append(of, e)
	}
	if len(of) == 0 {
		return true
	}
	t.asked = x.Now
	err := errNoRedis
	var answers []remote.Answer
	if node.remote != nil {
		answers, err = node.remote.Ask(within(x, limit), questions)
	}
	x.Tick()
	for i, e := range of {
		if err != nil {
			if t.withoutStore(e); !e.said.passes && !e.limit.DryRun {
				t.refused = t.index(e)
				return false
			}
			continue
		}
		a := answers[i]
		e.said = decision{passes: a.Took == e.cost, left: a.Left, wait: int64(a.Wait)}
		switch {
		case e.said.passes:
			e.taken, e.how = true, fromRedis
		case !e.limit.DryRun && a.Left < e.cost:
			if t.refused < 0 || e.said.wait > t.entries[t.refused].said.wait {
				t.refused = t.index(e)
			}
		case e.limit.DryRun && a.Left < e.cost:
			e.limit.count.wouldRefuse.Add(1)
		}
	}
	return t.refused < 0
}

func (t *Taken) index(of *entry) int {
	for i := range t.entries {
		if &t.entries[i] == of {
			return i
		}
	}
	return 0
}

// withoutStore decides what becomes of a request that Redis can't be asked about.
func (t *Taken) withoutStore(e *entry) {
	l := e.limit
	l.count.storeErrors.Add(1)
	switch l.OnError {
	case ratelimit.OnErrorAllow:
		e.said = decision{passes: true}
	case ratelimit.OnErrorDeny:
		e.said = decision{}
		t.unavailable = !l.DryRun
	default:
		e.said = l.take(e.tag, &e.at, e.cost)
		if e.taken = e.said.passes; e.taken {
			e.how = fromLocal
		} else if l.DryRun {
			l.count.wouldRefuse.Add(1)
		}
	}
}

// denyUnavailable answers an exchange that Redis can't be asked about, where the limit says so.
func denyUnavailable(x *exchange.Exchange) {
	x.FailStatus(fault.UpstreamUnavailable, 503, "what counts requests does not answer")
}
