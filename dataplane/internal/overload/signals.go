package overload

import (
	"runtime/metrics"
	"time"
)

// window is how long goroutines have to have waited, all the time, before the wait counts. What a collection of garbage
// or a burst costs is over by then (a standing queue, as CoDel has it: RFC 8289 section 4.2).
const window = time.Second

// delays are those of the last window.
type delays struct {
	last [2]slot
}

// slot has the least delay of a half of the window.
type slot struct {
	until time.Time
	least time.Duration
}

// add adds a delay and returns the least one since at least half a window, and at most a whole one; 0 while none is
// that old.
func (d *delays) add(now time.Time, late time.Duration) time.Duration {
	late = max(late, 0)
	switch s := &d.last[1]; {
	case s.until.IsZero():
		d.last[1] = slot{now.Add(window / 2), late}
		return 0
	case now.Before(s.until):
		s.least = min(s.least, late)
	default:
		d.last[0], d.last[1] = *s, slot{now.Add(window / 2), late}
	}
	if d.last[0].until.IsZero() {
		return 0
	}
	return min(d.last[0].least, d.last[1].least)
}

// pressureOfDelay is full at the limit. Critical requests are never turned away for a delay: when only they are left,
// they may as well wait.
func pressureOfDelay(d, limit time.Duration) int64 {
	return min(int64(d*full/limit), full)
}

// The pressure of memory begins at half of the limit, and is full at nine tenths of it: from there on the collector is
// at work all the time.
const (
	memoryFrom = 500
	memoryFull = 900
)

func pressureOfMemory(needed, limit int64) int64 {
	share := int64(float64(needed) / float64(limit) * full)
	return max(0, min((share-memoryFrom)*full/(memoryFull-memoryFrom), 2*full))
}

// memory reads how much memory is needed: what the last collection of garbage has kept, and what is no heap.
type memory struct{ samples []metrics.Sample }

func newMemory() *memory {
	m := &memory{}
	for _, name := range []string{
		"/memory/classes/total:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/free:bytes",
		"/memory/classes/heap/unused:bytes", "/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes",
	} {
		m.samples = append(m.samples, metrics.Sample{Name: name})
	}
	return m
}

func (m *memory) needed() int64 {
	metrics.Read(m.samples)
	v := func(i int) int64 { return int64(m.samples[i].Value.Uint64()) }
	return v(0) - v(1) - v(2) - v(3) - v(4) + v(5)
}
