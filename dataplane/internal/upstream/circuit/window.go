package circuit

import (
	"time"

	"gateway.internal/dataplane/internal/upstream/outcome"
)

// window is a circuit that the results of the last interval open: too many errors, too many slow responses, or
// failures in a row.
type window struct{ machine }

func newWindow(now time.Time) *window {
	c := &window{}
	c.init(now)
	return c
}

// Admit implements Circuit.
func (c *window) Admit(now time.Time, shard uint32, p *Permit) Verdict {
	if c.gradient.Load() != nil {
		return c.admitLimited(now, shard, p)
	}
	generation, ok := c.admit(now)
	if !ok {
		return Open
	}
	p.take(c, generation, shard, nowhere)
	return Admitted
}

// admitLimited is Admit with an adaptive limit.
func (c *window) admitLimited(now time.Time, shard uint32, p *Permit) Verdict {
	if c.shut(now) {
		c.rejected.Add(1)
		return Open
	}
	for !c.inUse.take(c.most()) {
		if !c.overdue(now) {
			c.rejected.Add(1)
			return Full
		}
	}
	return c.begin(c, now, shard, p, limited)
}

func (c *window) ended(p *Permit, r *outcome.Result) {
	c.sample(r)
	c.count(p, r)
}

func (c *window) leave(p *Permit) { c.inUse.give(p) }

func (c *window) stream(p *Permit) {
	if c.gradient.Load() != nil {
		c.leave(p)
	}
}
