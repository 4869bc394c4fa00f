package socket

import (
	"runtime/debug"
	"time"
)

// trim gives memory back to the system when many connections have become idle: the stacks of their goroutines are free
// then, but the runtime would keep them for minutes.
type trim struct {
	seen, trimmed uint64
	last          time.Time
}

const (
	// trimAfter is how many connections have to become idle: their stacks are some megabytes, worth a collection.
	trimAfter = 1024
	// trimInterval is the least time between two trims, so that they cost less than a thousandth of a processor.
	trimInterval = 30 * time.Second
)

// look is called every idleTick with the number of connections parked so far. It waits until few more come.
func (t *trim) look(now time.Time, parked uint64) {
	quiet := parked-t.seen < trimAfter/8
	t.seen = parked
	if !quiet || parked-t.trimmed < trimAfter || now.Sub(t.last) < trimInterval {
		return
	}
	t.trimmed, t.last = parked, now
	debug.FreeOSMemory()
}
