// Package health checks endpoints actively: by HTTP requests or by opening connections, each at its own interval. It
// writes the verdicts into the endpoints' state, which balancers read, and remembers them for reports. It does not see
// traffic.
package health

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/dataplane/internal/upstream/balance"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// maxConcurrent bounds the checks that run at once. By the default settings a quarter of 10,000 endpoints may leave
// checks without an answer before the others are checked late.
const maxConcurrent = 512

const (
	// spreadEach is how far the first checks of targets that come together are apart, on average.
	spreadEach = 200 * time.Microsecond
	// minSpread is the least that they are spread over: nodes get a configuration all at once.
	minSpread = 100 * time.Millisecond
)

// Target is one endpoint to check.
type Target struct {
	// ServiceID and Service are the service's id and name.
	ServiceID, Service string
	// Host and Port are the endpoint's, as the configuration or discovery has them.
	Host string
	Port uint32
	// Dial is what connections are opened to, the second where the first one refuses; both "": Host and Port.
	Dial [2]string
	// TLS is how checks are encrypted; nil: not at all. HTTP2 tells that HTTP/2 is spoken without asking.
	TLS   *tls.Config
	HTTP2 bool
	// State takes the verdict. It is what an endpoint is known by: no two targets share one.
	State *balance.State
	// Check says how.
	Check config.HealthCheck

	match *match // Check's
}

// Prober makes one check; nil means healthy.
type Prober func(ctx context.Context, t Target) error

// Checker runs the checks of all targets: one goroutine knows what is due when, and only checks that are under way have
// one of their own. Its methods are safe for concurrent use.
type Checker struct {
	log   *slog.Logger
	probe Prober
	ctx   context.Context // of all checks
	stop  context.CancelFunc
	wake  chan struct{}
	wg    sync.WaitGroup

	mu       sync.Mutex
	watches  map[*balance.State]*watch
	schedule schedule
	running  int
	changed  map[*balance.State]*streamv1.EndpointHealth
	// forgotten are endpoints of watches that had a verdict and have ended, since the last report.
	forgotten map[endpointKey]bool
	nodes     int         // that check the same endpoints
	alone     *time.Timer // runs when the number of nodes is not valid any more; nil: it is valid
}

// watch is a target with its history.
type watch struct {
	target         Target
	at             time.Time
	index          int                // in the schedule; -1 while a check is under way
	cancel         context.CancelFunc // of the check that is under way, or nil
	passed, failed int                // in a row
	fresh          bool               // it has waited for its first check to pass: one is enough
	own            bool               // other nodes check another endpoint at the same address
	last           *streamv1.EndpointHealth
}

// NewChecker returns a checker without targets. probe may be nil for real checks. Close ends what it starts.
func NewChecker(log *slog.Logger, probe Prober) *Checker {
	if probe == nil {
		probe = newProbe()
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Checker{
		log: log, probe: probe, ctx: ctx, stop: stop, wake: make(chan struct{}, 1),
		watches: map[*balance.State]*watch{}, changed: map[*balance.State]*streamv1.EndpointHealth{},
		forgotten: map[endpointKey]bool{},
	}
	c.wg.Go(c.run)
	return c
}

// Set makes these the targets. Those whose service, address, protocol and check are the same go on as they are. What is
// no longer checked counts as healthy.
func (c *Checker) Set(targets []Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := make(map[*balance.State]bool, len(targets))
	var fresh []*watch
	for _, t := range targets {
		wanted[t.State] = true
		w := c.watches[t.State]
		if w != nil {
			if old := w.target; old.ServiceID == t.ServiceID && old.Host == t.Host && old.Port == t.Port && old.Dial == t.Dial && old.Check == t.Check && old.TLS == t.TLS && old.HTTP2 == t.HTTP2 {
				w.target.Service = t.Service
				continue
			}
			c.forget(w)
		}
		t.match = matchOf(t.Check)
		w = &watch{target: t, index: -1, own: isOwn(&t),
			fresh: w == nil && t.Check.UnhealthyAtFirst}
		c.watches[t.State] = w
		fresh = append(fresh, w)
	}
	for state, w := range c.watches {
		if !wanted[state] {
			c.forget(w)
			state.SetHealthy(true)
		}
	}
	now := time.Now()
	spread := max(minSpread, time.Duration(len(fresh))*spreadEach)
	for _, w := range fresh {
		c.schedule.add(w, now.Add(rand.N(min(spread, w.target.Check.Interval)+1)))
	}
	c.signal()
}

// forget ends a watch; the caller holds mu.
func (c *Checker) forget(w *watch) {
	c.schedule.remove(w)
	if w.cancel != nil {
		w.cancel()
	}
	delete(c.watches, w.target.State)
	delete(c.changed, w.target.State)
	if w.last != nil {
		c.forgotten[keyOf(w.last)] = true
	}
}

// Close ends all checks and waits for them.
func (c *Checker) Close() {
	c.mu.Lock()
	c.stopWaiting()
	c.mu.Unlock()
	c.stop()
	c.wg.Wait()
}

// Report returns the verdicts that are new since the last call, and the endpoints of which there is none any more;
// all tells to return every verdict.
func (c *Checker) Report(all bool) (verdicts []*streamv1.EndpointHealth, unchecked []*streamv1.UncheckedEndpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := c.forgotten // an endpoint at several addresses may have another verdict without one of them
	c.forgotten = map[endpointKey]bool{}
	for _, h := range c.changed {
		wanted[keyOf(h)] = true
	}
	merged := map[endpointKey]*streamv1.EndpointHealth{}
	failing := map[endpointKey]uint32{}
	for _, w := range c.watches {
		if w.last == nil {
			continue
		}
		if key := keyOf(w.last); all || wanted[key] {
			merged[key] = merge(merged[key], w.last)
			if w.last.GetError() != "" {
				failing[key]++
			}
		}
	}
	clear(c.changed)
	for key, n := range failing {
		h := merged[key] // which a former report may have
		merged[key] = &streamv1.EndpointHealth{
			ServiceId: h.GetServiceId(), Host: h.GetHost(), Port: h.GetPort(), Healthy: h.GetHealthy(),
			CheckedAt: h.GetCheckedAt(), Error: h.GetError(), FailingAddresses: n,
		}
	}
	for key := range wanted {
		if merged[key] == nil {
			unchecked = append(unchecked, &streamv1.UncheckedEndpoint{ServiceId: key.service, Host: key.host, Port: key.port})
		}
	}
	return slices.Collect(maps.Values(merged)), unchecked
}

// endpointKey is what control planes know an endpoint by.
type endpointKey struct {
	service, host string
	port          uint32
}

func keyOf(h *streamv1.EndpointHealth) endpointKey {
	return endpointKey{h.GetServiceId(), h.GetHost(), h.GetPort()}
}

// merge returns the verdict on an endpoint that is at several addresses: it takes traffic while one of them does. a may
// be nil.
func merge(a, b *streamv1.EndpointHealth) *streamv1.EndpointHealth {
	switch {
	case a == nil, b.GetHealthy() && !a.GetHealthy():
		return b
	case a.GetHealthy() && !b.GetHealthy(), a.GetCheckedAt().AsTime().After(b.GetCheckedAt().AsTime()):
		return a
	}
	return b
}

// signal makes run look at the schedule.
func (c *Checker) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run starts checks when they are due.
func (c *Checker) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(c.startDue())
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// startDue starts the checks that are due, as many as there is room for, and returns when to look again.
func (c *Checker) startDue() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for c.running < maxConcurrent {
		w, wait := c.schedule.due(now)
		if w == nil {
			return wait
		}
		ctx, cancel := context.WithTimeout(c.ctx, w.target.Check.Timeout)
		w.cancel = cancel
		c.running++
		t := w.target
		c.wg.Go(func() {
			err := c.probe(ctx, t)
			cancel()
			c.checked(w, now, err)
		})
	}
	return time.Hour // until a check has ended
}

// checked takes the outcome of a check that began at a time, and makes the next one due.
func (c *Checker) checked(w *watch, begun time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.signal()
	c.running--
	w.cancel = nil
	if c.ctx.Err() != nil || c.watches[w.target.State] != w {
		return
	}
	c.judge(w, err)
	c.schedule.add(w, begun.Add(w.interval(c.nodes)))
}

// judge applies the thresholds; the caller holds mu.
func (c *Checker) judge(w *watch, err error) {
	if err == nil {
		w.passed, w.failed = w.passed+1, 0
	} else {
		w.passed, w.failed = 0, w.failed+1
	}
	t := &w.target
	was := !t.State.Reasons().Has(balance.ChecksFailed)
	now := was
	switch {
	case was && w.failed >= t.Check.Unhealthy:
		now = false
	case !was && (w.passed >= t.Check.Healthy || w.fresh && w.passed > 0):
		now = true
	}
	w.fresh = false
	t.State.SetHealthy(now)
	h := &streamv1.EndpointHealth{
		ServiceId: t.ServiceID, Host: t.Host, Port: t.Port, Healthy: now, CheckedAt: timestamppb.Now(),
	}
	if err != nil {
		h.Error = err.Error()
	}
	w.last, c.changed[t.State] = h, h
	switch {
	case was && !now:
		c.log.Warn("endpoint takes no more traffic: its checks fail", "service", t.Service, "endpoint", t.dialed(), "error", h.GetError())
	case !was && now:
		c.log.Info("endpoint takes traffic again", "service", t.Service, "endpoint", t.dialed())
	}
}
