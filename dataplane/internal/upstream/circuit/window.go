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
	generation, ok := c.admit(now)
	if !ok {
		return Open
	}
	p.take(c, generation, shard)
	return Admitted
}

func (c *window) ended(p *Permit, r *outcome.Result) { c.count(p, r) }

func (c *window) leave(*Permit) {}
