// Package balance chooses among the endpoints of a service. A balancer is made for one fixed list of targets. What
// outlives the list is the targets' State, an endpoint's health and the requests that it has in flight, and the place
// in the schedule, which the next list's balancer takes over. It opens no connections.
//
// A [Balancer] chooses a tier of targets first, by their healthy shares, and a [Strategy] one of the tier's targets.
package balance

import (
	"math/bits"
	"slices"
	"time"

	"gateway.internal/shared/keyhash"
)

// Target is an endpoint as balancers see it.
type Target struct {
	// State is the endpoint's.
	State *State
	// Weight is its share, 0 to 1000; 0 gets nothing.
	Weight uint32
	// Tier is its tier: lower ones get requests first.
	Tier uint16
	// Key is what consistent_hash knows it by, the same on all nodes: its address.
	Key string
}

// usable reports whether a target may be picked.
func (t *Target) usable() bool { return t.Weight > 0 && t.State.Healthy() }

// Settings are how a service's requests are shared. They are comparable.
type Settings struct {
	// Kind is a load_balancer_type; an unknown one is round_robin.
	Kind string
	// Overprovisioning is how much of a tier's requests its healthy share takes, for each of it; 0: 1.4. With 1.4 a
	// tier takes all of them while 72 % of its targets are healthy.
	Overprovisioning float64
	// Panic is the healthy share of a tier, 0 to 1, below which its health is not looked at; 0: it always is.
	Panic float64
	// SlowStart is how a target's share grows after it became healthy; a Window of 0: it has it at once.
	SlowStart SlowStart
	// TableSize is the number of places of the table of consistent_hash; 0: DefaultTableSize.
	TableSize int
	// Bound is how many times the mean of its requests in flight a target may have under consistent_hash, above 1; 0:
	// any number.
	Bound float64
	// Begin is where the schedule begins that goes on from no other, in units of 2^-64 of it: all nodes that begin at the
	// same place would send their first requests to the same target.
	Begin uint64
	// Decay is how long it takes until what peak_ewma knows of response times counts 1/e; 0: DefaultDecay.
	Decay time.Duration
}

// overprovisioning is the default of Settings.Overprovisioning, as Envoy's.
const overprovisioning = 1.4

// Choice is what a strategy is told of a request. It is passed by value: a pointer to it would have to live on the
// heap.
type Choice struct {
	// Tried is what is not chosen again; nil: nothing.
	Tried *Tried
	// Hash is of the request's key, for consistent_hash, where Keyed says that it has one.
	Hash  uint64
	Keyed bool
	// Now is the time, as [Moment] has it; it is needed where [Balancer.TellsTime] says so.
	Now int64

	panics bool // health is not looked at
	from   int  // the first of Tried that counts
}

// excludes reports whether a target is not to be chosen.
func (c *Choice) excludes(s *State) bool {
	for k := c.from; k < c.Tried.Len(); k++ {
		if c.Tried.at(k) == s {
			return true
		}
	}
	return false
}

// allows reports whether a target may be chosen.
func (c *Choice) allows(s *State) bool {
	return (s.Healthy() || c.panics) && (c.Tried == nil || !c.excludes(s))
}

// Balancer chooses targets. It is safe for concurrent use, takes no lock and does not allocate, except for the first
// picks after a target's health has changed.
type Balancer struct {
	settings Settings
	targets  []Target
	health   health
	tiers    []tier
	turn     ticket // of choices among tiers
}

// tier is a group of targets with its strategy.
type tier struct {
	group
	strategy Strategy
	indices  []uint32 // of its targets in the balancer's list; nil: they are all of it
}

// New returns a balancer. It goes on where previous is, the balancer of the same service so far, or nil: targets are
// known by their State, and a target that previous owes requests to gets them first. A balancer that a later one has
// been made from may still be picked from.
func New(set Settings, targets []Target, previous *Balancer) *Balancer {
	if previous != nil && previous.settings == set && slices.Equal(previous.targets, targets) {
		return previous
	}
	if set.Overprovisioning == 0 {
		set.Overprovisioning = overprovisioning
	}
	b := &Balancer{settings: set, targets: targets}
	b.tiers = tiersOf(targets)
	for i := range b.tiers {
		t := &b.tiers[i]
		t.health, t.place, t.slow, t.begin = &b.health, i, set.SlowStart, set.Begin
		b.health.tiers = append(b.health.tiers, &t.group)
		t.strategy = newStrategy(&set, &t.group, previous.strategyOf(t.targets[0].Tier))
	}
	b.health.over, b.health.panic = set.Overprovisioning, set.Panic
	b.turn.n.Store(drawOf(keyhash.Mix(set.Begin))) // not the place within the tier
	if previous != nil {
		b.turn.n.Store(previous.turn.n.Load())
	}
	return b
}

// tiersOf sorts targets by tier.
func tiersOf(targets []Target) []tier {
	var numbers []uint16
	for _, t := range targets {
		if at, has := slices.BinarySearch(numbers, t.Tier); !has {
			numbers = slices.Insert(numbers, at, t.Tier)
		}
	}
	tiers := make([]tier, len(numbers))
	if len(tiers) == 1 {
		tiers[0].targets = targets
		return tiers
	}
	for i, t := range targets {
		at, _ := slices.BinarySearch(numbers, t.Tier)
		tiers[at].targets = append(tiers[at].targets, t)
		tiers[at].indices = append(tiers[at].indices, uint32(i))
	}
	return tiers
}

// strategyOf returns the strategy of a tier, or nil.
func (b *Balancer) strategyOf(number uint16) Strategy {
	if b != nil {
		for i := range b.tiers {
			if b.tiers[i].targets[0].Tier == number {
				return b.tiers[i].strategy
			}
		}
	}
	return nil
}

// TellsTime reports whether a choice has to have the time.
func (b *Balancer) TellsTime() bool {
	return b.settings.SlowStart.Window > 0 || b.settings.Kind == "peak_ewma"
}

// Hashes reports whether a choice may have a key.
func (b *Balancer) Hashes() bool { return b.settings.Kind == "consistent_hash" }

// Observes reports whether what becomes of requests has to be told by [State.Observe].
func (b *Balancer) Observes() bool { return b.settings.Kind == "peak_ewma" }

// Pick returns the index of a healthy target that the request has not been sent to; where it has been sent to all of
// them, of another than the last one; where that is the only one, its index again. -1: there is none to choose.
func (b *Balancer) Pick(c Choice) int {
	i := b.pick(c)
	if i >= 0 || c.Tried.Len() == 0 {
		return i
	}
	c.from = c.Tried.Len() - 1
	if i = b.pick(c); i >= 0 {
		return i
	}
	c.from++
	return b.pick(c)
}

func (b *Balancer) pick(c Choice) int {
	if len(b.tiers) == 1 && b.settings.Panic == 0 {
		return b.tiers[0].strategy.Pick(c)
	}
	return b.pickAmongTiers(c)
}

// pickAmongTiers chooses the tier by load. Where it has nothing that the request may still be sent to, the others are
// asked in their order.
func (b *Balancer) pickAmongTiers(c Choice) int {
	if len(b.tiers) == 0 {
		return -1
	}
	l := b.health.loads()
	n := keyhash.Mix(c.Hash ^ golden)
	if !c.Keyed {
		n = 0
		if l.several {
			n = b.turn.take() * golden
		}
	}
	first := l.draw(n)
	if i := b.tiers[first].pick(c, l.panics[first]); i >= 0 {
		return i
	}
	for t := range b.tiers {
		if t == first {
			continue
		}
		if i := b.tiers[t].pick(c, l.panics[t]); i >= 0 {
			return i
		}
	}
	return -1
}

func (t *tier) pick(c Choice, panics bool) int {
	c.panics = panics
	i := t.strategy.Pick(c)
	if i >= 0 && t.indices != nil {
		return int(t.indices[i])
	}
	return i
}

// scale brings a number of 64 bits to 0 to n-1.
func scale(h, n uint64) uint64 {
	high, _ := bits.Mul64(h, n)
	return high
}
