// Package fleet knows the nodes: who is connected, what each runs, what it refused and what it reports. It is memory of
// this process; nodes tell everything again when they connect.
package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

const (
	// silence is how long a connected node may say nothing before another process may take its id.
	silence = 15 * time.Second
	// remembered is how long a node that went away is still listed.
	remembered = 24 * time.Hour
	// forgetInterval is how often it is looked for nodes that went away longer ago.
	forgetInterval = time.Minute
	// maxNodes bounds how many nodes are listed.
	maxNodes = 10_000
)

// ErrConflict is a second process with the id of a node that is connected.
var ErrConflict = errors.New("another process with this node id is connected; give each node an id (--node-id) and a data folder (--data-dir) of its own")

// Fleet is safe for concurrent use.
type Fleet struct {
	mu      sync.Mutex
	nodes   map[string]*node
	tallies map[string]*tally  // by epoch
	targets map[string]*Target // by node id; absent: the newest revision
	served  map[revision]*traffic
	routes  int // how many there are in served
	// forced has the circuits that were opened by hand, by service id.
	forced map[string]Forced
	// resets has when circuits were reset by hand, by service id.
	resets map[string]time.Time
	checks checks
	// questions are about limits.
	questions questions
	// forgotAt is when it was last looked for nodes that went away long ago.
	forgotAt time.Time

	propagation prometheus.Histogram
	rejections  prometheus.Counter
}

type node struct {
	view      *adminv1.Node
	instance  string
	epoch     string // of what it runs, or refuses
	session   *Session
	standing  standing                                       // as it is counted
	endpoints map[string]map[string]*streamv1.EndpointHealth // by service id and host:port
	uses      map[string]map[string]*streamv1.EndpointUse    // the same
	served    map[revision]*traffic                          // without routes
	circuits  map[string]*streamv1.CircuitStatus             // by service id
}

// New returns an empty fleet whose metrics are in a registry.
func New(registry prometheus.Registerer) *Fleet {
	f := &Fleet{
		nodes: map[string]*node{}, tallies: map[string]*tally{}, targets: map[string]*Target{},
		served: map[revision]*traffic{}, forced: map[string]Forced{}, resets: map[string]time.Time{},
		checks: checks{seen: map[seenKey]*seen{}},
		propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gateway_config_propagation_seconds",
			Help:    "From the commit of a revision until a connected node says that it has applied it.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		rejections: prometheus.NewCounter(prometheus.CounterOpts{Name: "gateway_node_rejections_total", Help: "Revisions that nodes refused."}),
	}
	count := func(counts func(*node) bool) func() float64 {
		return func() float64 {
			f.mu.Lock()
			defer f.mu.Unlock()
			n := 0
			for _, one := range f.nodes {
				if one.session != nil && counts(one) {
					n++
				}
			}
			return float64(n)
		}
	}
	connected := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_nodes_connected", Help: "Nodes whose stream is open.",
	}, count(func(*node) bool { return true }))
	refusing := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_nodes_refusing", Help: "Connected nodes that refuse the revision that they were told to run last.",
	}, count(func(n *node) bool { return n.standing.refuses }))
	degraded := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_nodes_degraded", Help: "Connected nodes that run a revision of which something does not work.",
	}, count(func(n *node) bool { return len(n.view.GetDegraded()) > 0 }))
	registry.MustRegister(f.propagation, f.rejections, connected, refusing, degraded)
	return f
}

// Session is one node's open stream.
type Session struct {
	fleet *Fleet
	id    string
	// Replaced is closed when the same process has opened another stream.
	Replaced chan struct{}
	// retargeted is closed when the node's target changes; under the fleet's mu.
	retargeted chan struct{}
	// directives are those that have not been sent, and directed has something in it when there are some; under the
	// fleet's mu.
	directives directives
	directed   chan struct{}
	// told is the number of nodes that the node knows: its own to begin with.
	told int
}

// ErrFull is a new node while maxNodes are connected.
var ErrFull = fmt.Errorf("the control plane serves %d nodes, and no more", maxNodes)

// Connect takes a node in. It is ErrConflict when another process with its id is connected.
func (f *Fleet) Connect(h *streamv1.Hello, address string) (*Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	n := f.nodes[h.GetNodeId()]
	if n != nil && n.session != nil {
		if n.instance != h.GetInstanceId() && now.Sub(n.view.GetLastSeenAt().AsTime()) < silence {
			n.view.Conflict = &adminv1.NodeConflict{Address: address, At: timestamppb.New(now)}
			return nil, ErrConflict
		}
		close(n.session.Replaced)
	}
	joins := n == nil || n.session == nil
	if n == nil {
		if len(f.nodes) >= maxNodes || now.Sub(f.forgotAt) >= forgetInterval { // it goes through all of them
			f.forget(now)
			f.forgotAt = now
		}
		if len(f.nodes) >= maxNodes {
			return nil, ErrFull
		}
		n = &node{view: &adminv1.Node{}}
		f.nodes[h.GetNodeId()] = n
	}
	n.instance = h.GetInstanceId()
	n.endpoints = map[string]map[string]*streamv1.EndpointHealth{}
	n.uses = map[string]map[string]*streamv1.EndpointUse{}
	n.circuits = map[string]*streamv1.CircuitStatus{}
	v := n.view
	v.Id, v.Group, v.Labels, v.Build, v.Address = h.GetNodeId(), h.GetGroup(), h.GetLabels(), h.GetBuild(), address
	v.Host = h.GetHost()
	v.Connected, v.ConnectedAt, v.LastSeenAt, v.StartedAt = true, timestamppb.New(now), timestamppb.New(now), h.GetStartedAt()
	v.Revision, v.Refuses, n.epoch = h.GetRevision(), nil, h.GetEpoch()
	v.Degraded = problems(h.GetDegradation().GetProblems())
	n.session = &Session{fleet: f, id: h.GetNodeId(), Replaced: make(chan struct{}), retargeted: make(chan struct{}),
		directed: make(chan struct{}, 1), told: 1}
	f.directAll(n.session, now)
	if joins {
		f.checks.connected++
		f.tellSoon(now)
	}
	n.session.size(f.checks.connected)
	f.showTarget(n)
	f.stand(n)
	return n.session, nil
}

// forget drops nodes that went away long ago, and the longest gone where there are too many; the caller holds mu.
func (f *Fleet) forget(now time.Time) {
	maps.DeleteFunc(f.nodes, func(_ string, n *node) bool {
		return n.session == nil && now.Sub(n.view.GetLastSeenAt().AsTime()) > remembered
	})
	if len(f.nodes) < maxNodes {
		return
	}
	oldest := ""
	for id, n := range f.nodes {
		if n.session == nil && (oldest == "" || n.view.GetLastSeenAt().AsTime().Before(f.nodes[oldest].view.GetLastSeenAt().AsTime())) {
			oldest = id
		}
	}
	delete(f.nodes, oldest)
}

// with calls change with the session's node, unless another session has taken its place.
func (s *Session) with(change func(n *node)) {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	if n := s.fleet.nodes[s.id]; n != nil && n.session == s {
		n.view.LastSeenAt = timestamppb.Now()
		change(n)
		s.fleet.stand(n)
	}
}

// Result takes an answer in. committedAt is when the revision that is answered was committed.
func (s *Session) Result(r *streamv1.Result, committedAt time.Time) {
	s.with(func(n *node) {
		if r.GetRevision() == 0 {
			return
		}
		switch r.GetOutcome() {
		case streamv1.Result_OUTCOME_REJECTED:
			s.fleet.rejections.Inc()
			n.view.LastRejection = &adminv1.Rejection{Revision: r.GetRevision(), At: timestamppb.Now(), Problems: problems(r.GetProblems())}
			n.view.Refuses, n.epoch = n.view.LastRejection, r.GetEpoch()
		case streamv1.Result_OUTCOME_APPLIED, streamv1.Result_OUTCOME_DEGRADED:
			took := max(time.Since(committedAt), 0) // another machine's clock may have said when
			n.view.Revision, n.view.PropagationMs = r.GetRevision(), float64(took)/1e6
			n.view.Degraded = problems(r.GetProblems())
			n.view.Refuses, n.epoch = nil, r.GetEpoch()
			s.fleet.propagation.Observe(took.Seconds())
		}
	})
}

func problems(list []*streamv1.Problem) []*adminv1.Problem {
	var out []*adminv1.Problem
	for _, p := range list {
		out = append(out, &adminv1.Problem{Kind: p.GetKind(), Name: p.GetName(), Field: p.GetField(), Message: p.GetReason()})
	}
	return out
}

// Report takes a report in.
func (s *Session) Report(r *streamv1.Report) {
	s.with(func(n *node) {
		if d := r.GetDegradation(); d != nil {
			n.view.Degraded = problems(d.GetProblems())
		}
		s.fleet.serve(n, r, time.Now())
		var sum served
		for _, t := range r.GetRoutes() {
			sum.add(t)
		}
		n.view.RequestsPerSecond, n.view.ErrorRatio = 0, sum.errorRatio()
		if micros := r.GetIntervalMicros(); micros > 0 {
			n.view.RequestsPerSecond = float64(sum.requests) * 1e6 / float64(micros)
		}
		n.view.ActiveConnections = uint32(r.GetActiveConnections())
		for _, c := range r.GetCircuits() {
			if n.circuits[c.GetServiceId()] = c; c.GetGone() {
				delete(n.circuits, c.GetServiceId())
			}
			s.resetMissed(c)
		}
		for _, h := range r.GetEndpoints() {
			of := n.endpoints[h.GetServiceId()]
			if of == nil {
				of = map[string]*streamv1.EndpointHealth{}
				n.endpoints[h.GetServiceId()] = of
			}
			key := config.EndpointKey(&configv1.Endpoint{Host: h.GetHost(), Port: h.GetPort()})
			s.fleet.sees(of[key], h)
			of[key] = h
		}
		n.use(r.GetUses())
		s.fleet.answer(s.id, r.GetLimits())
		for _, r := range r.GetUnchecked() {
			of := n.endpoints[r.GetServiceId()]
			delete(of, config.EndpointKey(&configv1.Endpoint{Host: r.GetHost(), Port: r.GetPort()}))
			if len(of) == 0 {
				delete(n.endpoints, r.GetServiceId())
			}
		}
	})
}

// Close says that the stream has ended.
func (s *Session) Close() {
	s.with(func(n *node) {
		n.session, n.endpoints, n.uses, n.circuits = nil, nil, nil, nil
		n.view.Connected = false
		s.fleet.checks.connected--
		s.fleet.tellSoon(time.Now())
	})
}

// Nodes returns all nodes by id.
func (f *Fleet) Nodes() []*adminv1.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*adminv1.Node, 0, len(f.nodes))
	for _, n := range f.nodes {
		v := copyOf(n.view)
		v.Served = n.servedView()
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b *adminv1.Node) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return list
}

// copyOf copies a view, one level deep: what is below is replaced, never changed.
func copyOf(v *adminv1.Node) *adminv1.Node {
	c := &adminv1.Node{
		Id: v.GetId(), Group: v.GetGroup(), Labels: v.GetLabels(), Build: v.GetBuild(), Address: v.GetAddress(), Connected: v.GetConnected(),
		ConnectedAt: v.GetConnectedAt(), LastSeenAt: v.GetLastSeenAt(), Revision: v.GetRevision(), PropagationMs: v.GetPropagationMs(),
		LastRejection: v.GetLastRejection(), Degraded: v.GetDegraded(), RequestsPerSecond: v.GetRequestsPerSecond(), ErrorRatio: v.GetErrorRatio(),
		ActiveConnections: v.GetActiveConnections(), StartedAt: v.GetStartedAt(), Host: v.GetHost(), Refuses: v.GetRefuses(),
		TargetRevision: v.GetTargetRevision(), TargetProblem: v.GetTargetProblem(),
	}
	if x := v.GetConflict(); x != nil && time.Since(x.GetAt().AsTime()) < time.Minute {
		c.Conflict = x
	}
	return c
}
