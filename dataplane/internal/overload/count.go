package overload

import "sync/atomic"

// count is a number that many processors change, spread over cells of which each is a batch away from being told to
// all. It is exact for small limits, and for others less than a thirtieth of the limit off.
type count struct {
	batch int64
	cells []cell
	_     [64]byte
	all   atomic.Int64
	_     [64]byte
}

// cell is alone on its line of the cache.
type cell struct {
	n atomic.Int64
	_ [56]byte
}

func newCount(limit, shards int) *count {
	c := &count{batch: 1}
	if shards > 1 {
		c.batch = max(int64(limit/(32*shards)), 1)
		c.cells = make([]cell, shards)
	}
	return c
}

// add changes the number by at most 1, and returns about what it is then.
func (c *count) add(shard uint32, by int64) int64 {
	if c.batch == 1 {
		return c.all.Add(by)
	}
	own := &c.cells[shard%uint32(len(c.cells))].n
	n := own.Add(by)
	if n < c.batch && n > -c.batch {
		return c.all.Load() + n
	}
	own.Add(-n)
	return c.all.Add(n)
}

// load returns the number.
func (c *count) load() int64 {
	n := c.all.Load()
	for i := range c.cells {
		n += c.cells[i].n.Load()
	}
	return n
}
