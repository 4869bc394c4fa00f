package access

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxThrottled is how many addresses are remembered; beyond it the one is forgotten that failed longest ago.
	maxThrottled = 10_000
	// freeFailures is how many failures there may be before an address has to wait.
	freeFailures = 10
	// leastPause is the wait after the first failure beyond that, which doubles with each one up to mostPause.
	leastPause = time.Second
	mostPause  = 5 * time.Minute
	// forgottenAfter is how long after its last failure an address is as any other.
	forgottenAfter = 15 * time.Minute
)

// Throttle slows down who guesses, by the client's address: an IPv4 address, or the /64 of an IPv6 address, which one
// client has all of. It is safe for concurrent use.
type Throttle struct {
	mu        sync.Mutex
	addresses map[netip.Prefix]*list.Element
	recent    *list.List // of *failures, the last one who failed in front
}

// failures are those of an address.
type failures struct {
	of    netip.Prefix
	count int
	last  time.Time
	until time.Time // before which nothing is looked at
}

// NewThrottle returns one that nobody has failed at.
func NewThrottle() *Throttle {
	return &Throttle{addresses: map[netip.Prefix]*list.Element{}, recent: list.New()}
}

// network is what a client has all of. All texts that are no address are one.
func network(address string) netip.Prefix {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	a, bits := a.Unmap().WithZone(""), 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits)
	return p
}

// Network returns the name of what counts as one client: an IPv4 address, or the /64 of an IPv6 address.
func Network(address string) string {
	p := network(address)
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// Wait returns how long an address has to wait; 0: not at all.
func (t *Throttle) Wait(address string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.addresses[network(address)]
	if e == nil {
		return 0
	}
	return max(0, time.Until(e.Value.(*failures).until))
}

// Failed counts a failure of an address. What is refused because the address has to wait is none.
func (t *Throttle) Failed(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, of := time.Now(), network(address)
	e := t.addresses[of]
	if e == nil {
		e = t.recent.PushFront(&failures{of: of})
		t.addresses[of] = e
		if oldest := t.recent.Back(); t.recent.Len() > maxThrottled {
			t.recent.Remove(oldest)
			delete(t.addresses, oldest.Value.(*failures).of)
		}
	}
	t.recent.MoveToFront(e)
	f := e.Value.(*failures)
	if now.Sub(f.last) > forgottenAfter {
		f.count = 0
	}
	f.count, f.last = f.count+1, now
	if beyond := f.count - freeFailures; beyond > 0 {
		f.until = now.Add(min(mostPause, leastPause<<min(beyond-1, 20)))
	}
}
