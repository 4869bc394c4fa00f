// Package telemetry counts what exchanges do, for Prometheus and for reports to the control plane. Counting is a few
// atomic additions on cells that are found when a snapshot is compiled, spread over shards so that processors do not
// fight for them. Label values come from the configuration, never from requests.
package telemetry

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/shared/fault"
)

// Bounds are the upper bounds of the duration histograms in seconds.
func Bounds() []float64 { return slices.Clone(bounds[:]) }

var bounds = [...]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

var boundNanos = func() (ns [len(bounds)]int64) {
	for i, b := range bounds {
		ns[i] = int64(b * 1e9)
	}
	return ns
}()

var sizeBounds = [...]float64{100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000}

// methods are the values of the label "method".
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "other"}

// Method is a value of the label "method". It is found when a request begins: at its end the request's text has left
// the processor's cache, which with hundreds of connections costs a tenth of a microsecond (make bench, 256
// connections).
type Method uint8

// MethodOf returns the label of a request method.
func MethodOf(m string) Method {
	for i := range len(methods) - 1 {
		if methods[i] == m {
			return Method(i)
		}
	}
	return Method(len(methods) - 1)
}

// Key names what is counted together. Both parts are empty for requests that no route matched.
type Key struct {
	// RouteID and ServiceID tell routes and services apart; Route and Service are the labels. A series is the labels':
	// what takes a name over goes on with its counters.
	RouteID, Route, ServiceID, Service string
}

// labels are what the series of several keys have in common.
type labels struct{ route, service string }

func (k Key) labels() labels { return labels{k.Route, k.Service} }

// Registry holds all counters of a node.
type Registry struct {
	shards uint32

	mu     sync.Mutex
	routes map[Key]*Route
	gone   map[Key]time.Time  // routes that are no longer configured, since when
	past   map[labels]*totals // what routes counted that are forgotten, while others have their names

	versions    atomic.Uint64
	connections atomic.Int64
	upgrades    Upgrades
	sets        Sets
	panics      atomic.Uint64
	handshakes  [2]atomic.Uint64 // failed, done
	refused     [len(refusals)]atomic.Uint64
}

// New returns a registry whose counters are spread over a number of shards, at least 1.
func New(shards int) *Registry {
	return &Registry{shards: uint32(max(shards, 1)), routes: map[Key]*Route{}, gone: map[Key]time.Time{}, past: map[labels]*totals{}}
}

// Route returns the counters of a key, the same ones until it is forgotten.
func (r *Registry) Route(k Key) *Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.routes[k]; t != nil {
		delete(r.gone, k)
		return t
	}
	t := &Route{key: k, shards: r.shards}
	r.routes[k] = t
	return t
}

// Sets returns the metrics of middleware and mirrors. It is a collector of its own.
func (r *Registry) Sets() *Sets { return &r.sets }

// forgetAfter is how long the counters of a route that is gone are still shown and reported: exchanges that it began
// may go on.
const forgetAfter = 10 * time.Minute

// Forget lets go of the counters of routes that are gone: at once where nothing was counted, in ten minutes otherwise.
func (r *Registry) Forget(keys map[Key]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for k := range keys {
		switch t := r.routes[k]; {
		case t == nil || k == Key{}:
		case t.cells.Load() == nil && r.past[k.labels()] == nil:
			delete(r.routes, k)
		default:
			r.gone[k] = now
		}
	}
}

// sweep forgets what has been gone for long enough. What it counted stays where another route has its name: counters
// don't go backwards.
func (r *Registry) sweep() {
	now := time.Now()
	var ended []*Route
	for k, since := range r.gone {
		if now.Sub(since) >= forgetAfter {
			ended = append(ended, r.routes[k])
			delete(r.gone, k)
			delete(r.routes, k)
		}
	}
	if len(ended) == 0 {
		return
	}
	named := map[labels]bool{}
	for k := range r.routes {
		named[k.labels()] = true
	}
	for _, t := range ended {
		switch l := t.key.labels(); {
		case !named[l]:
			delete(r.past, l)
		case r.past[l] == nil:
			sum, _ := t.totals()
			r.past[l] = &sum
		default:
			sum, _ := t.totals()
			r.past[l].join(&sum)
		}
	}
}

// Connections changes the number of open client connections.
func (r *Registry) Connections(n int64) { r.connections.Add(n) }

// Handshake counts a TLS handshake with a client.
func (r *Registry) Handshake(done bool) {
	i := 0
	if done {
		i = 1
	}
	r.handshakes[i].Add(1)
}

// Refusal is why a connection is turned away.
type Refusal uint8

// The reasons.
const (
	// RefusedProxyProtocol is for what the PROXY protocol does not allow.
	RefusedProxyProtocol Refusal = iota
	// RefusedMaxConnections is for those that are too many for the node.
	RefusedMaxConnections
	// RefusedMaxConnectionsPerClient is for those that are too many of one client.
	RefusedMaxConnectionsPerClient
)

// refusals are the values of the label "reason".
var refusals = [...]string{"proxy_protocol", "max_connections", "max_connections_per_client"}

// Refused counts a connection that was turned away.
func (r *Registry) Refused(why Refusal) { r.refused[why].Add(1) }

// Route counts one key's exchanges. It is safe for concurrent use. Memory for a method is taken at its first exchange.
type Route struct {
	key    Key
	shards uint32
	cells  atomic.Pointer[[]cell]
	// traffic is what each version has served, the newest one's first.
	traffic atomic.Pointer[traffic]
	mu      sync.Mutex
}

// Key returns what the counters are of.
func (t *Route) Key() Key { return t.key }

// cell is one shard. Its parts are taken when they are first used.
type cell struct {
	byMethod [len(methods)]atomic.Pointer[methodCell]
	faults   sync.Map // fault.Code -> *atomic.Uint64
	_        [64]byte
}

type methodCell struct {
	statuses      [9]atomic.Pointer[[100]atomic.Uint64] // 100 to 999
	duration      [len(bounds) + 1]atomic.Uint64
	durationNanos atomic.Uint64
	upstream      [len(bounds) + 1]atomic.Uint64
	upstreamNanos atomic.Uint64
	size          [len(sizeBounds) + 1]atomic.Uint64
	sizeBytes     atomic.Uint64
}

// Done is how an exchange ended.
type Done struct {
	// Version is what served it; nil: it began before there was one.
	Version *Version
	Method  Method
	Status  int
	// Code is the gateway's error, if there was one.
	Code fault.Code
	// Duration is from the head to the response's last byte; Upstream is the part that the service took to answer, 0 when
	// it was not asked.
	Duration, Upstream time.Duration
	// ResponseBytes is the size of the response's body.
	ResponseBytes int64
	// RequestBytes is how much a client sent after it had gone over to another protocol.
	RequestBytes int64
}

// Done counts an exchange. It does not allocate once a method, status and code have been seen.
func (t *Route) Done(shard uint32, d *Done) {
	shard %= t.shards
	c := t.cell(shard)
	m := c.byMethod[d.Method].Load()
	if m == nil {
		m = &methodCell{}
		if !c.byMethod[d.Method].CompareAndSwap(nil, m) {
			m = c.byMethod[d.Method].Load()
		}
	}
	if d.Status >= 100 && d.Status <= 999 {
		class := &m.statuses[d.Status/100-1]
		s := class.Load()
		if s == nil {
			s = new([100]atomic.Uint64)
			if !class.CompareAndSwap(nil, s) {
				s = class.Load()
			}
		}
		s[d.Status%100].Add(1)
	}
	took := bucket(d.Duration)
	t.count(shard, d, took)
	m.duration[took].Add(1)
	m.durationNanos.Add(uint64(max(d.Duration, 0)))
	if d.Upstream > 0 {
		m.upstream[bucket(d.Upstream)].Add(1)
		m.upstreamNanos.Add(uint64(d.Upstream))
	}
	i := 0
	for i < len(sizeBounds) && float64(d.ResponseBytes) > sizeBounds[i] {
		i++
	}
	m.size[i].Add(1)
	m.sizeBytes.Add(uint64(max(d.ResponseBytes, 0)))
	if d.Code != "" {
		n, ok := c.faults.Load(d.Code)
		if !ok {
			n, _ = c.faults.LoadOrStore(d.Code, new(atomic.Uint64))
		}
		n.(*atomic.Uint64).Add(1)
	}
}

func bucket(d time.Duration) int {
	for i, b := range boundNanos {
		if int64(d) <= b {
			return i
		}
	}
	return len(boundNanos)
}

// cell returns the cell of a shard, below shards.
func (t *Route) cell(shard uint32) *cell {
	cells := t.cells.Load()
	if cells == nil {
		t.mu.Lock()
		if cells = t.cells.Load(); cells == nil {
			made := make([]cell, t.shards)
			cells = &made
			t.cells.Store(cells)
		}
		t.mu.Unlock()
	}
	return &(*cells)[shard]
}
