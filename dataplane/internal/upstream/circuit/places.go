package circuit

import "sync/atomic"

// placed is where an attempt under way is counted.
type placed uint8

const (
	nowhere placed = iota
	limited
	unlimited
)

// places counts the attempts under way. While their number has no limit each core counts its own: one counter that all
// of them write costs as much as the rest of the circuit. It is safe for concurrent use.
type places struct {
	_         [64]byte
	limited   atomic.Int64
	_         [56]byte
	unlimited []place
}

// place is a counter on a cache line of its own.
type place struct {
	n atomic.Int64
	_ [56]byte
}

// add counts attempts for which there is no limit.
func (p *places) add(shard uint32, n int64) {
	p.unlimited[int(shard)&(len(p.unlimited)-1)].n.Add(n)
}

// free returns how many attempts have begun when there was no limit.
func (p *places) free() (n int64) {
	for i := range p.unlimited {
		n += p.unlimited[i].n.Load()
	}
	return n
}

// count returns how many attempts are under way.
func (p *places) count() int64 { return p.limited.Load() + p.free() }

// take takes one of so many places, 0: of any number, if there is one.
func (p *places) take(most int) bool {
	limit := int64(most) - p.free()
	for {
		n := p.limited.Load()
		if most > 0 && n >= limit {
			return false
		}
		if p.limited.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// give gives a permit's place back, if it is counted.
func (p *places) give(of *Permit) {
	switch of.placed {
	case unlimited:
		p.add(of.shard, -1)
	case limited:
		p.limited.Add(-1)
	}
	of.placed = nowhere
}
