package fleet

import (
	"time"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

const (
	// tellInterval is the least time between two messages to all nodes about checks.
	tellInterval = time.Second
	// lookInterval is the least time between two messages about the same endpoint.
	lookInterval = 5 * time.Second
	// lookRemembered is how long nodes that see the same as was told are not news.
	lookRemembered = time.Minute
	// maxLooks bounds the endpoints of one message; others follow.
	maxLooks = 1000
	// maxSeen bounds the endpoints that are remembered. What is seen of others beyond is not told: each node sees it by
	// itself at its next check.
	maxSeen = 10_000
)

// checks is what nodes are told about the checks of endpoints. The fleet's mutex protects it.
type checks struct {
	connected int // nodes
	seen      map[seenKey]*seen
	pending   []seenKey   // to be told, in the order in which they came
	timer     *time.Timer // runs before something is told; nil: nothing is to be
	toldAt    time.Time
	looks     int // messages
}

// seenKey names an endpoint of a service.
type seenKey struct {
	service, host string
	port          uint32
}

// seen is an endpoint of which a node has seen a change.
type seen struct {
	failing uint32 // addresses at which it fails
	told    time.Time
	pending bool
}

// sees takes in what a node says of an endpoint, and what it said last, which is nil when it is the first time; the
// caller holds mu.
func (f *Fleet) sees(was, is *streamv1.EndpointHealth) {
	failing := failingAt(is)
	if failingAt(was) == failing || f.checks.connected < 2 {
		return
	}
	c, now := &f.checks, time.Now()
	key := seenKey{is.GetServiceId(), is.GetHost(), is.GetPort()}
	e := c.seen[key]
	switch {
	case e == nil && len(c.seen) >= maxSeen:
		return
	case e == nil:
		e = &seen{}
		c.seen[key] = e
	case e.failing == failing && (e.pending || now.Sub(e.told) < lookRemembered):
		return
	}
	e.failing = failing
	if !e.pending {
		e.pending = true
		c.pending = append(c.pending, key)
	}
	f.tellSoon(now)
}

// failingAt returns at how many addresses an endpoint fails. Nodes of earlier builds say only whether it does.
func failingAt(h *streamv1.EndpointHealth) uint32 {
	if n := h.GetFailingAddresses(); n > 0 || h.GetError() == "" {
		return n
	}
	return 1
}

// tellSoon has nodes told what they have not been, once a second at most; the caller holds mu.
func (f *Fleet) tellSoon(now time.Time) {
	if f.checks.timer == nil {
		f.checks.timer = time.AfterFunc(max(f.checks.toldAt.Add(tellInterval).Sub(now), 0), f.tell)
	}
}

// tell tells all nodes how many there are, and which endpoints to check.
func (f *Fleet) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, now := &f.checks, time.Now()
	c.timer, c.toldAt = nil, now
	look := &streamv1.CheckDirective{}
	var later []seenKey
	for _, key := range c.pending {
		e := c.seen[key]
		if len(look.GetEndpoints()) >= maxLooks || now.Sub(e.told) < lookInterval {
			later = append(later, key)
			continue
		}
		e.pending, e.told = false, now
		look.Endpoints = append(look.Endpoints,
			&streamv1.CheckedEndpoint{ServiceId: key.service, Host: key.host, Port: key.port})
	}
	c.pending = later
	if len(later) > 0 {
		f.tellSoon(now)
	}
	for key, e := range c.seen {
		if !e.pending && now.Sub(e.told) >= lookRemembered {
			delete(c.seen, key)
		}
	}
	if len(look.GetEndpoints()) > 0 {
		c.looks++
		f.direct(checksOf(c.looks), &streamv1.Directive{Action: &streamv1.Directive_Check{Check: look}})
	}
	for _, n := range f.nodes {
		if n.session != nil {
			n.session.size(c.connected)
		}
	}
}

// size tells a node how many there are, when that is another number by a tenth than what it was told. The caller holds
// the fleet's mu.
func (s *Session) size(nodes int) {
	if differ := max(nodes-s.told, s.told-nodes); differ == 0 || 10*differ < s.told {
		return
	}
	s.told = nodes
	s.direct(sizeOfFleet, &streamv1.Directive{Action: &streamv1.Directive_FleetSize{
		FleetSize: &streamv1.FleetSize{Nodes: uint32(nodes)}}})
}
