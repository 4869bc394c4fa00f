// Package inuse counts what is taken from pools and not given back, so that tests can see that nothing is lost. It
// counts in builds with the race detector, which tests are run with; in others a Counter is nothing.
package inuse

import "sync/atomic"

// Counter counts. The zero value is ready.
type Counter struct{ n atomic.Int64 }

// Add counts n more, or fewer, in use.
func (c *Counter) Add(n int64) {
	if Counting {
		c.n.Add(n)
	}
}

// Load returns how many are in use; 0 where nothing is counted.
func (c *Counter) Load() int64 { return c.n.Load() }
