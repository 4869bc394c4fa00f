package ratelimit

import (
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/ratelimit"
)

// Owner is what a limit belongs to: a policy or a middleware, by name.
type Owner struct {
	// Policy and Middleware are names; one is empty.
	Policy, Middleware string
}

// Limit is one limit. It is immutable; what it has counted is in its store, which outlives it.
type Limit struct {
	ratelimit.Settings
	meter meter
	node  *Node
	ref   *live.Ref[*store]
	table *table // of the store
	// leases are what the node has taken ahead; prefix begins the names of keys in Redis.
	leases *table
	prefix string
	count  counters
	// policyItem is the limit as an item of RateLimit-Policy, and refusal what is said to those who don't pass.
	policyItem, refusal string
	period              atomic.Pointer[period]
	made                time.Time
}

// counters count what a limit has done.
type counters struct {
	refused, wouldRefuse, storeErrors *telemetry.Counter
}

// moment returns a time as the limit sees it.
func (l *Limit) moment(now time.Time) moment {
	if l.Calendar == ratelimit.NoCalendar {
		return l.meter.moment(now, l.node.base, nil)
	}
	p := l.period.Load()
	if ns := now.UnixNano(); p == nil || ns < p.from || ns >= p.until {
		p = periodOf(&l.Settings, now)
		l.period.Store(p)
	}
	return l.meter.moment(now, l.node.base, p)
}

// take takes a cost for a key, if it may pass.
func (l *Limit) take(tag uint64, at *moment, cost int64) decision {
	for {
		s := l.table.place(tag, &l.meter, at)
		if s == nil {
			return decision{}
		}
		for {
			state := s.state.Load()
			if state&frozen != 0 {
				l.table.await(tag)
				break
			}
			next, d := l.meter.take(state, at, cost)
			if !d.passes {
				return d
			}
			if s.tag.Load() != tag {
				break // it has made room for another one
			}
			if s.state.CompareAndSwap(state, next) {
				return d
			}
		}
	}
}

// look returns what the limit says of a request for a key, of which it takes nothing.
func (l *Limit) look(tag uint64, at *moment, cost int64) decision {
	_, d := l.meter.take(l.table.load(tag), at, cost)
	return d
}

// give gives back what was taken for a key at a moment.
func (l *Limit) give(tag uint64, at *moment, cost int64) {
	for {
		g := l.table.shard(tag).segment.Load()
		if g == nil {
			return
		}
		s := g.find(tag)
		if s == nil {
			return
		}
		for {
			state := s.state.Load()
			if state&frozen != 0 {
				l.table.await(tag)
				break
			}
			if s.tag.Load() != tag {
				return
			}
			if s.state.CompareAndSwap(state, l.meter.give(state, at, cost)) {
				return
			}
		}
	}
}
