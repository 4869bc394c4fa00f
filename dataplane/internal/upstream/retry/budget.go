// Package retry holds what a service's retries and hedges have in common: a budget, so that they never become a storm,
// and how long responses take. It knows neither requests nor endpoints.
package retry

import (
	"sync/atomic"
	"time"
)

// Window is the time that a budget looks back.
const Window = slots * slotLength

const (
	slots      = 10
	slotLength = time.Second
)

// Budget limits retries and hedges to a share of the requests of the last ten seconds. The zero value has seen nothing.
// It is safe for concurrent use, takes no lock and does not allocate.
//
// Time is cut into slots. A slot is one word, with the number of its second and a count, so that it begins anew by one
// compare-and-swap, and nothing that is counted meanwhile is lost.
type Budget struct {
	_        [64]byte // a line of its own: each request counts
	requests [slots]slot
	retries  [slots]slot
}

// slot has the number of its second in the upper half and a count in the lower one.
type slot struct{ word atomic.Uint64 }

const countBits = 32

func word(second uint32, n uint32) uint64 { return uint64(second)<<countBits | uint64(n) }

// epoch is before all times that are counted: it is longer ago than anything looks back. Times are counted from it by
// the monotonic clock, so that nothing changes when the other one is set.
var epoch = time.Now().Add(-time.Hour)

// secondOf returns the number of a time's slot.
func secondOf(now time.Time) uint32 { return uint32(now.Sub(epoch) / slotLength) }

// add counts one more in a second.
func (s *slot) add(second uint32) {
	for {
		w := s.word.Load()
		if at := uint32(w >> countBits); at == second || int32(second-at) < 0 { // a clock that is read late
			s.word.Add(1)
			return
		}
		if s.word.CompareAndSwap(w, word(second, 1)) {
			return
		}
	}
}

// in returns what was counted in a second.
func (s *slot) in(second uint32) uint32 {
	w := s.word.Load()
	if uint32(w>>countBits) != second {
		return 0
	}
	return uint32(w)
}

// sum returns what was counted in the window that ends with a second.
func sum(all *[slots]slot, second uint32) (n uint64) {
	for i := range uint32(slots) {
		n += uint64(all[(second-i)%slots].in(second - i))
	}
	return n
}

// Request counts a request, which may have retries later.
func (b *Budget) Request(now time.Time) {
	second := secondOf(now)
	b.requests[second%slots].add(second)
}

// Take asks for one retry or hedge, and reports whether there may be one: those of the window, this one included, are
// at most percent of the requests in it, or perSecond of each of its seconds where that is more.
func (b *Budget) Take(now time.Time, percent, perSecond uint32) bool {
	second := secondOf(now)
	most := max(sum(&b.requests, second)*uint64(percent)/100, uint64(perSecond)*slots)
	current := &b.retries[second%slots]
	before := uint64(0)
	for i := uint32(1); i < slots; i++ {
		before += uint64(b.retries[(second-i)%slots].in(second - i))
	}
	for {
		w := current.word.Load()
		n := uint32(w)
		if at := uint32(w >> countBits); at != second {
			if int32(second-at) < 0 { // the clock was read in a second that is over
				second = at
			}
			if at != second {
				n = 0
			}
		}
		if before+uint64(n)+1 > most {
			return false
		}
		if current.word.CompareAndSwap(w, word(second, n+1)) {
			return true
		}
	}
}
