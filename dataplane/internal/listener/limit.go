package listener

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
)

// The refusals of connections that are too many.
var (
	errTooMany        = errors.New("the node has as many connections as it may have (--max-connections)")
	errTooManyOfOwner = errors.New("the client has as many connections as it may have (--max-connections-per-client)")
)

// Limit bounds the connections of a node: listeners share one. Nil bounds nothing. It is safe for concurrent use.
type Limit struct {
	total, perClient int64
	open             atomic.Int64
	seed             maphash.Seed
	clients          [limitShards]limitShard
}

const limitShards = 64

// limitShard counts the connections of some clients.
type limitShard struct {
	mu   sync.Mutex
	open map[clientKey]int32 // nil: none
	peak int                 // most entries since it was made
	_    [40]byte
}

// clientKey is who connections are counted for: an IPv4 address, or 64 bits of IPv6, which is the least that one
// customer gets.
type clientKey [16]byte

func clientKeyOf(a netip.Addr) clientKey {
	a = a.Unmap()
	if a.Is6() {
		var o clientKey
		b := a.As16()
		copy(o[:8], b[:8])
		return o
	}
	return a.As16()
}

// NewLimit returns a limit of a number of connections in total and for each client; 0: any number.
func NewLimit(total, perClient int) *Limit {
	return &Limit{total: int64(total), perClient: int64(perClient), seed: maphash.MakeSeed()}
}

// DefaultMaxConnections returns half of the descriptors that the process may have, as each connection may need another
// one to a service; it is at least 64 and at most 1,000,000, which it also is where that number is not known.
func DefaultMaxConnections() int {
	const most = 1_000_000
	n, known := descriptors()
	if !known {
		return most
	}
	return int(min(max(n/2, 64), most))
}

// enter counts a connection that has just come, and returns false when there are too many; leave is called for every
// one that has entered.
func (l *Limit) enter() bool {
	if l == nil || l.total == 0 {
		return true
	}
	if l.open.Add(1) > l.total {
		l.open.Add(-1)
		return false
	}
	return true
}

func (l *Limit) leave() {
	if l != nil && l.total != 0 {
		l.open.Add(-1)
	}
}

// admit counts a client's connection, and returns false when it has too many; dismiss is called for every one that was
// admitted.
func (l *Limit) admit(client netip.Addr) bool {
	if l == nil || l.perClient == 0 {
		return true
	}
	o := clientKeyOf(client)
	s := l.shard(&o)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.open[o]
	if int64(n) >= l.perClient {
		return false
	}
	if s.open == nil {
		s.open, s.peak = map[clientKey]int32{}, 0
	}
	s.open[o] = n + 1
	s.peak = max(s.peak, len(s.open))
	return true
}

// keptEntries is how many entries a map may have had that is kept when it is empty: maps do not shrink.
const keptEntries = 64

func (l *Limit) dismiss(client netip.Addr) {
	if l == nil || l.perClient == 0 {
		return
	}
	o := clientKeyOf(client)
	s := l.shard(&o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.open[o]; n > 1 {
		s.open[o] = n - 1
		return
	}
	delete(s.open, o)
	if len(s.open) == 0 && s.peak > keptEntries {
		s.open = nil
	}
}

// shard picks by a hash that clients can't foresee.
func (l *Limit) shard(o *clientKey) *limitShard {
	lo, hi := binary.LittleEndian.Uint64(o[:8]), binary.LittleEndian.Uint64(o[8:])
	return &l.clients[maphash.Comparable(l.seed, [2]uint64{lo, hi})%limitShards]
}
