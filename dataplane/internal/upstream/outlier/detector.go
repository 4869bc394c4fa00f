package outlier

import (
	"container/heap"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/upstream/balance"
	"gateway.internal/shared/config"
)

const stateEjected = balance.Ejected

// Service is a service whose endpoints may be ejected.
type Service struct {
	// ID and Name are the service's.
	ID, Name string
	// Settings say when.
	Settings config.Outlier
	// Endpoints are all of the service's.
	Endpoints []Endpoint
}

// Endpoint is one endpoint of a service.
type Endpoint struct {
	// Host is known to one service alone.
	Host *Host
	// State takes the verdict.
	State *balance.State
	// Address is how it is called in the log.
	Address string
	// Weight is its share of the requests; 0: it gets none.
	Weight uint32
}

// Detector judges the endpoints of all services, by one goroutine that knows what is due when. Its methods are safe for
// concurrent use.
type Detector struct {
	log  *slog.Logger
	due  atomic.Pointer[Host] // those that have failed in a row, linked by next
	wake chan struct{}
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	groups   map[string]*group
	of       map[*Host]*group
	schedule schedule
}

// New returns a detector without services. Close ends its goroutine.
func New(log *slog.Logger) *Detector {
	d := &Detector{
		log: log, wake: make(chan struct{}, 1), stop: make(chan struct{}), groups: map[string]*group{},
		of: map[*Host]*group{},
	}
	d.done.Go(d.run)
	return d
}

// Close ends what New has started. No results may come any more.
func (d *Detector) Close() {
	close(d.stop)
	d.done.Wait()
}

// tell has the detector look at an endpoint. It is called at most once until it has been looked at.
func (d *Detector) tell(h *Host) {
	for {
		first := d.due.Load()
		h.next = first
		if d.due.CompareAndSwap(first, h) {
			break
		}
	}
	d.signal()
}

func (d *Detector) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *Detector) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(d.advance(time.Now()))
		select {
		case <-d.stop:
			return
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// advance does what is due and returns how long there is nothing to do.
func (d *Detector) advance(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	for h := d.due.Swap(nil); h != nil; {
		next := h.next
		reason := Reason(h.due.Load())
		if g := d.of[h]; g != nil {
			g.eject(h, reason, now)
			d.plan(g, g.advance(now))
		}
		h.next = nil
		h.due.Store(0) // from now on it may be told again
		h = next
	}
	for len(d.schedule) > 0 && !d.schedule[0].at.After(now) {
		g := d.schedule[0]
		d.plan(g, g.advance(now))
	}
	if len(d.schedule) == 0 {
		return time.Hour
	}
	return d.schedule[0].at.Sub(now)
}

// plan makes a group due at a time; mu is held.
func (d *Detector) plan(g *group, at time.Time) {
	g.at = at
	heap.Fix(&d.schedule, g.index)
}

// Set makes these the services. What was counted, and who is ejected for how long, stays: it belongs to the endpoints.
// Endpoints that are not among them any more get requests again.
func (d *Detector) Set(services []Service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	of := make(map[*Host]*group, len(d.of))
	groups := make(map[string]*group, len(services))
	for i := range services {
		s := &services[i]
		g := d.groups[s.ID]
		if g == nil {
			g = &group{id: s.ID, sweep: now.Add(s.Settings.Interval), at: now, changed: d.changed}
			heap.Push(&d.schedule, g)
		}
		d.set(g, s, now)
		groups[s.ID] = g
		for _, h := range g.hosts {
			of[h] = g
		}
	}
	for h, g := range d.of {
		if of[h] == nil {
			h.rules.Store(nil)
			h.spread.Store(nil)
			if h.ejected() {
				g.giveBack(h, now)
			}
			h.forget()
			h.times = 0
		}
	}
	for id, g := range d.groups {
		if groups[id] == nil {
			heap.Remove(&d.schedule, g.index)
		}
	}
	d.of, d.groups = of, groups
	for _, g := range groups {
		g.limit(now)
	}
	d.signal()
}

// set takes over what is known of a service; mu is held.
func (d *Detector) set(g *group, s *Service, now time.Time) {
	changed := g.set != s.Settings
	if changed {
		g.sweep = now.Add(s.Settings.Interval)
		d.plan(g, now)
	}
	g.service, g.set = s.Name, s.Settings
	var shared *rules
	g.hosts = slices.Grow(g.hosts[:0], len(s.Endpoints))
	for _, e := range s.Endpoints {
		h := e.Host
		h.state, h.name, h.weight = e.State, e.Address, e.Weight
		g.hosts = append(g.hosts, h)
		if r := h.rules.Load(); r != nil && !changed {
			shared = r
			continue
		}
		if shared == nil {
			shared = &rules{detector: d, set: s.Settings, compares: g.compares(), times: g.times()}
		}
		switch wanted := g.times() && s.Settings.Latency.Percentile > 0; {
		case !wanted:
			h.spread.Store(nil)
		case h.spread.Load() == nil:
			h.spread.Store(&histogram{})
		}
		h.rules.Store(shared)
	}
}

// changed logs that an endpoint was ejected, or given back; mu is held.
func (d *Detector) changed(g *group, h *Host, length time.Duration) {
	if length == 0 {
		d.log.Info("endpoint is tried again after its ejection",
			"service", g.service, "endpoint", h.name, "reason",
			h.reason.String())
		return
	}
	d.log.Warn("endpoint is ejected: what comes of its requests stands out", "service", g.service, "endpoint", h.name,
		"reason", h.reason.String(), "duration", length.String(), "ejections", h.count)
}

// Ejection is how an endpoint stands.
type Ejection struct {
	// Until is when it gets requests again; zero: it is not ejected.
	Until time.Time
	// Reason is why it is, or was last.
	Reason Reason
	// Count is how often it was, and is.
	Count uint64
}

// Look calls see with how a number of endpoints stand.
func (d *Detector) Look(hosts []*Host, see func(i int, e Ejection)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, h := range hosts {
		see(i, Ejection{h.until, h.reason, h.count})
	}
}

// schedule orders groups by when they are due. It implements heap.Interface.
type schedule []*group

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	g := x.(*group)
	g.index = len(*s)
	*s = append(*s, g)
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	g := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	g.index = -1
	return g
}
