// Package overload turns requests away before a node has more of them than it can serve: those of the lowest priority
// first, and the more of them the closer the node is to its limits. How close that is, the pressure, comes from three
// signals: how many exchanges are under way, how much memory is in use, and how long goroutines wait for a processor.
// It knows no exchange, and not what clients are told.
package overload

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"gateway.internal/shared/config"
)

// Settings are a node's limits. The zero value has none.
type Settings struct {
	// MaxRequests is the most exchanges at a time; 0: any number.
	MaxRequests int
	// MaxMemory is how many bytes the process may have in use; 0: any number.
	MaxMemory int64
	// MaxDelay is how long goroutines may have to wait for a processor, all of them, for a second; 0: for ever.
	MaxDelay time.Duration
	// Shards spreads counters, at least 1.
	Shards int
}

// full is the pressure of a node at its limit, in thousandths.
const full = 1000

// band is the pressure from which on some requests of a priority are turned away, and that from which on all are.
type band struct{ from, to int64 }

// bands are by priority. Critical requests have all that there is: they are turned away only at the limit itself.
var bands = [config.Priorities]band{
	config.PriorityLow:      {500, 600},
	config.PriorityNormal:   {800, 900},
	config.PriorityHigh:     {900, full},
	config.PriorityCritical: {full, full},
}

// Controller decides which requests are served. It is safe for concurrent use; the nil Controller serves all.
type Controller struct {
	settings Settings
	active   *count
	signals  atomic.Int64 // the pressure of memory and delay
	memory   atomic.Int64 // its pressure
	delay    atomic.Int64 // its pressure
	shed     [config.Priorities]atomic.Uint64
	// chance returns a number from 0 and below n.
	chance func(n int64) int64
}

// New returns a controller with settings; nil where there is no limit.
func New(s Settings) *Controller {
	if s.MaxRequests <= 0 && s.MaxMemory <= 0 && s.MaxDelay <= 0 {
		return nil
	}
	return &Controller{settings: s, active: newCount(s.MaxRequests, s.Shards), chance: rand.Int64N}
}

// Admit reports whether a request of a priority is served. One that is counts until Leave is called, once, with the
// same shard.
func (c *Controller) Admit(p config.Priority, shard uint32) bool {
	if c == nil {
		return true
	}
	return c.stays(p, shard, 1)
}

// Stays reports whether a request that was admitted is served, now that its priority turns out to be another one. Where
// it is not, Leave has been called for it.
func (c *Controller) Stays(p config.Priority, shard uint32) bool {
	if c == nil {
		return true
	}
	return c.stays(p, shard, 0)
}

// stays counts as many more exchanges, and decides about one.
func (c *Controller) stays(p config.Priority, shard uint32, more int64) bool {
	pressure := c.signals.Load()
	if limit := int64(c.settings.MaxRequests); limit > 0 {
		// Most requests come while the node is far from its limit: they do without the division.
		if n := c.active.add(shard, more); n*full > bands[p].from*limit {
			pressure = max(pressure, (n*full+limit-1)/limit)
		}
	}
	if c.serves(p, pressure) {
		return true
	}
	c.Leave(shard)
	return false
}

// serves decides by pressure, and counts those that are turned away.
func (c *Controller) serves(p config.Priority, pressure int64) bool {
	b := &bands[p]
	if pressure <= b.from || pressure < b.to && c.chance(b.to-b.from) >= pressure-b.from {
		return true
	}
	c.shed[p].Add(1)
	return false
}

// Leave ends what Admit has begun.
func (c *Controller) Leave(shard uint32) {
	if c != nil && c.settings.MaxRequests > 0 {
		c.active.add(shard, -1)
	}
}

// look is how often the delay is looked at, and lookAtMemory how many looks later the memory.
const (
	look         = 50 * time.Millisecond
	lookAtMemory = 10
)

// Run looks at memory and delays until the context ends.
func (c *Controller) Run(ctx context.Context) {
	if c == nil || c.settings.MaxMemory <= 0 && c.settings.MaxDelay <= 0 {
		return
	}
	memory, delays := newMemory(), delays{}
	tick := time.NewTimer(look)
	defer tick.Stop()
	for n := 0; ; n++ {
		due := time.Now().Add(look)
		tick.Reset(look)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c.settings.MaxDelay > 0 {
			now := time.Now()
			c.delay.Store(pressureOfDelay(delays.add(now, now.Sub(due)), c.settings.MaxDelay))
		}
		if c.settings.MaxMemory > 0 && n%lookAtMemory == 0 {
			c.memory.Store(pressureOfMemory(memory.needed(), c.settings.MaxMemory))
		}
		c.signals.Store(max(c.memory.Load(), c.delay.Load()))
	}
}
