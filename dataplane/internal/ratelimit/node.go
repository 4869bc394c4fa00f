// Package ratelimit counts requests against limits: how many may pass for a key, what is left for it, and when there is
// more. What has been counted outlives changes of the configuration. It knows exchanges, but neither routes nor how a
// request goes on.
package ratelimit

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/ratelimit/remote"
	"gateway.internal/dataplane/internal/telemetry"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/ratelimit"
)

// tidyInterval is how often idle keys are let go of.
const tidyInterval = 30 * time.Second

// Node is what the limits of a node share. It is safe for concurrent use.
type Node struct {
	live   *live.Store
	sets   *telemetry.Sets
	budget *Budget
	base   time.Time // when the clock of token buckets has begun
	// seeds are of the hash of keys: secret, so that nobody can make keys that share a place.
	seed maphash.Seed

	// remote is the Redis that nodes count in together; nil: there is none.
	remote *remote.Store
	asking sync.WaitGroup // goroutines that ask it for leases

	mu     sync.Mutex
	stores map[*store]bool
	// answers are those to operators that wait for a report.
	answers []*streamv1.LimitStatus
}

// UseRedis has limits of store "redis" count there. It is called before the first limit is made.
func (n *Node) UseRedis(s *remote.Store) { n.remote = s }

// Close waits for what asks Redis, which ends with it.
func (n *Node) Close() { n.asking.Wait() }

// NewNode returns a node without limits. What they count is kept in a store of live things, and counted in sets.
func NewNode(keep *live.Store, sets *telemetry.Sets) *Node {
	return &Node{
		live: keep, sets: sets, budget: NewBudget(DefaultSlots), base: time.Now().Add(-time.Hour), seed: maphash.MakeSeed(),
		stores: map[*store]bool{},
	}
}

// storeKey is what a store is known by: what changes of it, changes what the states in it mean. Those of a token bucket
// are times, which mean the same share of any limit.
type storeKey struct {
	owner     Owner
	limit     string
	algorithm ratelimit.Algorithm
	window    time.Duration
	calendar  ratelimit.Calendar
	zone      string
}

// store is what a limit has counted.
type store struct {
	node  *Node
	key   storeKey
	table table
	keys  *telemetry.Gauge
	known int64 // what keys says; the janitor's
	// leases are what the node has taken ahead in Redis.
	leases table

	refilling sync.Mutex
	flights   map[uint64]*flight // by the tag of a key

	mu    sync.Mutex
	limit *Limit // the newest one; it says how to read the states
}

// Limits returns the limits of an owner.
func (n *Node) Limits(of Owner, list []*configv1.RateLimit) ([]*Limit, error) {
	all := make([]*Limit, 0, len(list))
	for _, m := range list {
		l, err := n.newLimit(of, ratelimit.Of(m))
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func (n *Node) newLimit(of Owner, s ratelimit.Settings) (*Limit, error) {
	l := &Limit{Settings: s, node: n, made: time.Now()}
	if l.Name == "" {
		l.Name = of.Middleware
	}
	l.meter = newMeter(&l.Settings)
	key := storeKey{owner: of, limit: l.Name, algorithm: s.Algorithm}
	if s.Algorithm != ratelimit.TokenBucket {
		key.window, key.calendar, key.zone = s.Window, s.Calendar, s.Zone.String()
	}
	set := n.sets.Of("gateway_rate_limit", "policy", of.Policy, "middleware", of.Middleware, "limit", l.Name)
	l.count = newCounters(set)
	var err error
	l.ref, err = live.Keep(n.live, key, func() (*store, error) { return n.newStore(key, set), nil })
	if err != nil {
		return nil, err
	}
	st := l.ref.Value()
	l.table, l.leases = &st.table, &st.leases
	l.prefix = redisPrefix(&key)
	st.use(l)
	l.policyItem = policyItem(&l.Settings)
	l.refusal = `more requests than the limit "` + l.Name + `" lets pass`
	return l, nil
}

func newCounters(set *telemetry.Set) counters {
	limited := func(dry string) *telemetry.Counter {
		return set.Counter("ed_total", "Requests that a limit did not let pass, or, where dry_run is true, would not have.",
			"dry_run", dry)
	}
	return counters{
		refused: limited("false"), wouldRefuse: limited("true"),
		storeErrors: set.Counter("_store_errors_total", "Requests that Redis could not be asked about."),
	}
}

func (n *Node) newStore(key storeKey, set *telemetry.Set) *store {
	st := &store{node: n, key: key, keys: set.Gauge("_keys", "Keys that a limit has counted something for, lately.")}
	st.table.budget, st.leases.budget = n.budget, n.budget
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stores[st] = true
	return st
}

// use makes a limit the one by which states are read.
func (st *store) use(l *Limit) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.limit = l
}

// Close implements io.Closer.
func (st *store) Close() error {
	st.node.mu.Lock()
	delete(st.node.stores, st)
	st.node.mu.Unlock()
	st.table.close()
	st.leases.close()
	return nil
}

// all returns the stores that there are.
func (n *Node) all() []*store {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]*store, 0, len(n.stores))
	for st := range n.stores {
		list = append(list, st)
	}
	return list
}

// Run lets go of idle keys until ctx ends.
func (n *Node) Run(ctx context.Context) {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.tidy(time.Now())
		}
	}
}

func (n *Node) tidy(now time.Time) {
	for _, st := range n.all() {
		st.mu.Lock()
		if l := st.limit; l != nil {
			at := l.moment(now)
			ahead := n.leaseMoment(now)
			keys := int64(st.table.tidy(&l.meter, &at) + st.leases.tidy(&leaseMeter, &ahead))
			st.keys.Add(keys - st.known)
			st.known = keys
		}
		st.mu.Unlock()
	}
}
