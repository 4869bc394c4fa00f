package socket

import (
	"runtime/debug"
	"time"
)

// trim gives memory back to the system when many connections have begun to rest: the stacks of their goroutines are free then, but the runtime would keep
// them for minutes.
type trim struct {
	seen, trimmed uint64
	last          time.Time
}

const (
	// trimAfter is how many connections have to come to rest: their stacks are some megabytes, worth a collection.
	trimAfter = 1024
	// trimInterval is the least time between two trims, so that they cost less than a thousandth of a processor.
	trimInterval = 30 * time.Second
)

// look is called now and then with how many connections have come to rest so far. It waits until no more of them come.
func (t *trim) look(now time.Time, parked uint64) {
	quiet := parked-t.seen < trimAfter/8
	t.seen = parked
	if !quiet || parked-t.trimmed < trimAfter || now.Sub(t.last) < trimInterval {
		return
	}
	t.trimmed, t.last = parked, now
	debug.FreeOSMemory()
}
