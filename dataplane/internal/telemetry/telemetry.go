// Package telemetry counts what exchanges do, for Prometheus and for reports to the control plane. Counting is a few atomic
// additions on cells that are found when a snapshot is compiled, spread over shards so that processors do not fight for
// them. Label values come from the configuration, never from requests.
package telemetry

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
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

// Method is a value of the label "method". It is found when a request begins: at its end the request's text has left the processor's
// cache, which with hundreds of connections costs a tenth of a microsecond (make bench, 256 connections).
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
	// RouteID and ServiceID tell routes and services apart; Route and Service are the labels.
	RouteID, Route, ServiceID, Service string
}

// Registry holds all counters of a node.
type Registry struct {
	shards uint32

	mu     sync.Mutex
	routes map[Key]*Route
	gone   map[Key]time.Time // routes that are no longer configured, since when

	connections atomic.Int64
	upgrades    Upgrades
	handshakes  [2]atomic.Uint64 // failed, done
	refused     [len(refusals)]atomic.Uint64
}

// New returns a registry whose counters are spread over a number of shards, at least 1.
func New(shards int) *Registry {
	return &Registry{shards: uint32(max(shards, 1)), routes: map[Key]*Route{}, gone: map[Key]time.Time{}}
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

// forgetAfter is how long the counters of a route that is gone are still shown and reported: exchanges that it began may go on.
const forgetAfter = 10 * time.Minute

// Forget lets go of the counters of routes that are gone: at once where nothing was counted, in ten minutes otherwise.
func (r *Registry) Forget(keys map[Key]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for k := range keys {
		switch t := r.routes[k]; {
		case t == nil || k == Key{}:
		case t.cells.Load() == nil:
			delete(r.routes, k)
		default:
			r.gone[k] = now
		}
	}
}

// sweep forgets what has been gone for long enough.
func (r *Registry) sweep() {
	now := time.Now()
	for k, since := range r.gone {
		if now.Sub(since) >= forgetAfter {
			delete(r.gone, k)
			delete(r.routes, k)
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
	mu     sync.Mutex
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
	Method Method
	Status int
	// Code is the gateway's error, if there was one.
	Code fault.Code
	// Duration is from the head to the response's last byte; Upstream is the part that the service took to answer, 0 when it was
	// not asked.
	Duration, Upstream time.Duration
	// ResponseBytes is the size of the response's body.
	ResponseBytes int64
	// RequestBytes is how much a client sent after it had gone over to another protocol.
	RequestBytes int64
}

// Done counts an exchange. It does not allocate once a method, status and code have been seen.
func (t *Route) Done(shard uint32, d *Done) {
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
	m.duration[bucket(d.Duration)].Add(1)
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
	return &(*cells)[shard%t.shards]
}

// totals are a route's counters, all shards added up.
type totals struct {
	methods [len(methods)]methodTotals
	faults  map[fault.Code]uint64
}

type methodTotals struct {
	statuses                        map[int]uint64
	duration, upstream              [len(bounds) + 1]uint64
	durationNanos, upstreamNs       uint64
	size                            [len(sizeBounds) + 1]uint64
	sizeBytes, count, upstreamCount uint64
}

func (t *Route) totals() (sum totals, seen bool) {
	cells := t.cells.Load()
	if cells == nil {
		return sum, false
	}
	sum.faults = map[fault.Code]uint64{}
	for i := range *cells {
		c := &(*cells)[i]
		c.faults.Range(func(k, v any) bool {
			sum.faults[k.(fault.Code)] += v.(*atomic.Uint64).Load()
			return true
		})
		for mi := range c.byMethod {
			if m := c.byMethod[mi].Load(); m != nil {
				sum.methods[mi].add(m)
			}
		}
	}
	return sum, true
}

func (s *methodTotals) add(m *methodCell) {
	if s.statuses == nil {
		s.statuses = map[int]uint64{}
	}
	for class := range m.statuses {
		if p := m.statuses[class].Load(); p != nil {
			for i := range p {
				if n := p[i].Load(); n > 0 {
					s.statuses[(class+1)*100+i] += n
				}
			}
		}
	}
	for i := range m.duration {
		n := m.duration[i].Load()
		s.duration[i] += n
		s.count += n
		n = m.upstream[i].Load()
		s.upstream[i] += n
		s.upstreamCount += n
	}
	for i := range m.size {
		s.size[i] += m.size[i].Load()
	}
	s.durationNanos += m.durationNanos.Load()
	s.upstreamNs += m.upstreamNanos.Load()
	s.sizeBytes += m.sizeBytes.Load()
}

func (r *Registry) sorted() []*Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep()
	return slices.SortedFunc(maps.Values(r.routes), func(a, b *Route) int {
		return cmp.Or(cmp.Compare(a.key.Route, b.key.Route), cmp.Compare(a.key.Service, b.key.Service), cmp.Compare(a.key.RouteID, b.key.RouteID))
	})
}

var (
	requestsDesc  = prometheus.NewDesc("gateway_requests_total", "Requests that ended.", []string{"method", "route", "service", "status_code"}, nil)
	durationDesc  = prometheus.NewDesc("gateway_request_duration_seconds", "From a request's head to its response's last byte.", []string{"method", "route", "service"}, nil)
	upstreamDesc  = prometheus.NewDesc("gateway_upstream_duration_seconds", "From sending a request to the head of the service's response.", []string{"method", "route", "service"}, nil)
	sizeDesc      = prometheus.NewDesc("gateway_response_size_bytes", "Size of response bodies.", []string{"method", "route", "service"}, nil)
	errorsDesc    = prometheus.NewDesc("gateway_errors_total", "Errors of the gateway by code.", []string{"code", "route", "service"}, nil)
	handshakeDesc = prometheus.NewDesc("gateway_tls_handshakes_total", "TLS handshakes with clients: \"done\" or \"failed\".", []string{"result"}, nil)
	refusedDesc   = prometheus.NewDesc("gateway_connections_refused_total", "Client connections that were turned away.", []string{"reason"}, nil)
	activeDesc    = prometheus.NewDesc("gateway_active_connections", "Open client connections.", nil, nil)
)

// Describe implements prometheus.Collector.
func (r *Registry) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, durationDesc, upstreamDesc, sizeDesc, errorsDesc, handshakeDesc, refusedDesc, activeDesc, upgradesDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (r *Registry) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(activeDesc, prometheus.GaugeValue, float64(r.connections.Load()))
	r.upgrades.collect(ch)
	for i, result := range []string{"failed", "done"} {
		if n := r.handshakes[i].Load(); n > 0 {
			ch <- prometheus.MustNewConstMetric(handshakeDesc, prometheus.CounterValue, float64(n), result)
		}
	}
	for i, reason := range refusals {
		if n := r.refused[i].Load(); n > 0 {
			ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n), reason)
		}
	}
	for _, t := range r.sorted() {
		sum, seen := t.totals()
		if !seen {
			continue
		}
		for code, n := range sum.faults {
			ch <- prometheus.MustNewConstMetric(errorsDesc, prometheus.CounterValue, float64(n), string(code), t.key.Route, t.key.Service)
		}
		for mi := range sum.methods {
			m := &sum.methods[mi]
			if m.count == 0 {
				continue
			}
			labels := []string{methods[mi], t.key.Route, t.key.Service}
			for status, n := range m.statuses {
				ch <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, float64(n), append(slices.Clone(labels), strconv.Itoa(status))...)
			}
			ch <- prometheus.MustNewConstHistogram(durationDesc, m.count, float64(m.durationNanos)/1e9, cumulative(bounds[:], m.duration[:]), labels...)
			ch <- prometheus.MustNewConstHistogram(sizeDesc, m.count, float64(m.sizeBytes), cumulative(sizeBounds[:], m.size[:]), labels...)
			if m.upstreamCount > 0 {
				ch <- prometheus.MustNewConstHistogram(upstreamDesc, m.upstreamCount, float64(m.upstreamNs)/1e9, cumulative(bounds[:], m.upstream[:]), labels...)
			}
		}
	}
}

func cumulative(bounds []float64, counts []uint64) map[float64]uint64 {
	out := make(map[float64]uint64, len(bounds))
	sum := uint64(0)
	for i, b := range bounds {
		sum += counts[i]
		out[b] = sum
	}
	return out
}

// Reporter makes reports of what happened since the one before. It is not safe for concurrent use.
type Reporter struct {
	registry *Registry
	last     map[Key]*streamv1.RouteTraffic
}

// NewReporter returns a reporter whose first report covers everything so far.
func (r *Registry) NewReporter() *Reporter {
	return &Reporter{registry: r, last: map[Key]*streamv1.RouteTraffic{}}
}

// Report returns the traffic since the last report, of routes that had any. commit makes it the last one: when a report could
// not be sent, leaving commit out lets the next one cover its time too.
func (p *Reporter) Report() (traffic []*streamv1.RouteTraffic, connections uint64, commit func()) {
	now := map[Key]*streamv1.RouteTraffic{}
	for _, t := range p.registry.sorted() {
		sum, seen := t.totals()
		if !seen {
			continue
		}
		total := &streamv1.RouteTraffic{RouteId: t.key.RouteID, ServiceId: t.key.ServiceID, DurationBuckets: make([]uint64, len(bounds)+1)}
		for mi := range sum.methods {
			m := &sum.methods[mi]
			total.Requests += m.count
			total.DurationMicros += m.durationNanos / 1000
			for i, n := range m.duration {
				total.DurationBuckets[i] += n
			}
			for status, n := range m.statuses {
				if status >= 500 {
					total.Errors += n
				}
			}
		}
		now[t.key] = total
		if d := minus(total, p.last[t.key]); d.GetRequests() > 0 {
			traffic = append(traffic, d)
		}
	}
	return traffic, uint64(max(p.registry.connections.Load(), 0)), func() { p.last = now }
}

func minus(a, b *streamv1.RouteTraffic) *streamv1.RouteTraffic {
	d := &streamv1.RouteTraffic{
		RouteId: a.GetRouteId(), ServiceId: a.GetServiceId(), Requests: a.GetRequests() - b.GetRequests(), Errors: a.GetErrors() - b.GetErrors(),
		DurationMicros: a.GetDurationMicros() - b.GetDurationMicros(), DurationBuckets: slices.Clone(a.GetDurationBuckets()),
	}
	for i, n := range b.GetDurationBuckets() {
		d.DurationBuckets[i] -= n
	}
	return d
}
