// Package resolve keeps the addresses of names: it asks for them in the background, again when their time to live is
// over, and never while somebody waits. Names that can't be resolved keep the addresses that they had. It opens no
// connections to the addresses.
package resolve

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// DefaultMinTTL and DefaultMaxTTL bound how long an answer is believed, whatever it says itself.
	DefaultMinTTL = time.Second
	DefaultMaxTTL = 5 * time.Minute
	// minRetry and maxRetry are how long it takes to ask again after a failure; it doubles from one to the other.
	minRetry = time.Second
	maxRetry = 30 * time.Second
	// notFoundPatience is how long a name that does not exist any more keeps its addresses: they may be somebody else's
	// one day.
	notFoundPatience = 10 * time.Minute
	// leftPatience is how long the addresses of a name that nobody wants any more are remembered, maxLeft of how many
	// names.
	leftPatience = 10 * time.Minute
	maxLeft      = 10_000
	// maxConcurrent is how many names are asked for at once; as many again of those that can't be resolved.
	maxConcurrent = 64
)

// Settings say whom to ask.
type Settings struct {
	// Servers are asked instead of those of ResolvConf: "ADDRESS" or "ADDRESS:PORT".
	Servers []string
	// ResolvConf and Hosts are the system's files; empty: /etc/resolv.conf and /etc/hosts.
	ResolvConf, Hosts string
	// MinTTL and MaxTTL bound how long an answer is believed; 0: the defaults.
	MinTTL, MaxTTL time.Duration
}

// ErrNotFound is of a name that does not exist, or has no addresses.
var ErrNotFound = errors.New("the name does not exist or has no address")

// answer is what a name's servers say. complete tells that both families were answered for; otherwise family is the one
// that was not.
type answer struct {
	addresses []netip.Addr
	ttl       time.Duration
	missing   func(netip.Addr) bool // addresses of the family that could not be asked for; nil: none
}

// Resolver keeps addresses. Its methods are safe for concurrent use.
type Resolver struct {
	log    *slog.Logger
	lookup func(ctx context.Context, name string) (answer, error)
	minTTL time.Duration
	maxTTL time.Duration
	// slots are for lookups of names that can be resolved, or are new; failing for those that can't, which take long
	// where servers are silent.
	slots, failing chan struct{}
	// changed has a token when addresses have changed since it was taken.
	changed chan struct{}
	lookups *prometheus.CounterVec

	mu     sync.Mutex
	names  map[string]*watch
	left   map[string]leftName // that nobody wants any more
	closed bool
	wg     sync.WaitGroup
}

// watch is one name.
type watch struct {
	name  string
	stop  context.CancelFunc
	first chan struct{} // closed when it was asked for once

	mu        sync.Mutex
	addresses []netip.Addr // sorted
	failing   bool         // the last lookup failed
	missing   time.Time    // since when the name does not exist; zero: it does
	retry     time.Duration
}

// leftName is what was known of a name when it was wanted last.
type leftName struct {
	addresses []netip.Addr
	at        time.Time
}

// New returns a resolver without names. Close ends what it starts.
func New(s Settings, log *slog.Logger) (*Resolver, error) {
	c, err := newClient(s)
	if err != nil {
		return nil, err
	}
	return newResolver(s, log, c.lookup), nil
}

func newResolver(s Settings, log *slog.Logger, lookup func(context.Context, string) (answer, error)) *Resolver {
	r := &Resolver{
		log: log, lookup: lookup, minTTL: s.MinTTL, maxTTL: s.MaxTTL, changed: make(chan struct{}, 1),
		slots: make(chan struct{}, maxConcurrent), failing: make(chan struct{}, maxConcurrent),
		names: map[string]*watch{}, left: map[string]leftName{},
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_dns_lookups_total", Help: "Lookups of the names of endpoints, by result: ok, not_found or error.",
		}, []string{"result"}),
	}
	if r.minTTL <= 0 {
		r.minTTL = DefaultMinTTL
	}
	if r.maxTTL <= 0 {
		r.maxTTL = DefaultMaxTTL
	}
	for _, result := range []string{"ok", "not_found", "error"} {
		r.lookups.WithLabelValues(result)
	}
	return r
}

// Changed has a token when addresses have changed. One goroutine reads it.
func (r *Resolver) Changed() <-chan struct{} { return r.changed }

// Set makes these the names that are kept. Those that are there already go on. Those that were there less than
// leftPatience ago begin with the addresses that they had: a change that is refused or taken back while name servers
// fail costs no service its endpoints.
func (r *Resolver) Set(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	now := time.Now()
	maps.DeleteFunc(r.left, func(_ string, l leftName) bool { return now.Sub(l.at) >= leftPatience })
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
		if r.names[name] != nil {
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		w := &watch{name: name, stop: stop, first: make(chan struct{}), addresses: r.left[name].addresses}
		delete(r.left, name)
		r.names[name] = w
		r.wg.Go(func() { r.run(ctx, w) })
	}
	for name, w := range r.names {
		if !wanted[name] {
			w.stop()
			delete(r.names, name)
			w.mu.Lock()
			if len(w.addresses) > 0 && len(r.left) < maxLeft {
				r.left[name] = leftName{w.addresses, now}
			}
			w.mu.Unlock()
		}
	}
}

// Wait returns when each of the names that are kept has been asked for once, or when ctx is over.
func (r *Resolver) Wait(ctx context.Context) {
	r.mu.Lock()
	var firsts []chan struct{}
	for _, w := range r.names {
		firsts = append(firsts, w.first)
	}
	r.mu.Unlock()
	for _, first := range firsts {
		select {
		case <-first:
		case <-ctx.Done():
			return
		}
	}
}

// Addresses returns what a name's addresses are by now, in ascending order. It must not be changed.
func (r *Resolver) Addresses(name string) []netip.Addr {
	r.mu.Lock()
	w := r.names[name]
	r.mu.Unlock()
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addresses
}

// Close ends all lookups.
func (r *Resolver) Close() {
	r.Set(nil)
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.wg.Wait()
}

// run asks for a name again and again until ctx is over.
func (r *Resolver) run(ctx context.Context, w *watch) {
	first := sync.OnceFunc(func() { close(w.first) })
	defer first()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		slots := r.slots
		if w.isFailing() {
			slots = r.failing
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		got, err := r.lookup(ctx, w.name)
		<-slots
		if ctx.Err() != nil {
			return
		}
		var wait time.Duration
		if err == nil {
			wait = r.found(w, got)
		} else {
			wait = r.failed(w, err)
		}
		first()
		timer.Reset(wait + rand.N(wait/20+1)) // not all at once
	}
}

func (w *watch) isFailing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failing
}

// found takes an answer in, and returns how long it holds.
func (r *Resolver) found(w *watch, got answer) time.Duration {
	r.lookups.WithLabelValues("ok").Inc()
	w.mu.Lock()
	defer w.mu.Unlock()
	next := slices.Clone(got.addresses)
	if got.missing != nil { // the other family keeps what it had
		for _, a := range w.addresses {
			if got.missing(a) {
				next = append(next, a)
			}
		}
	}
	slices.SortFunc(next, netip.Addr.Compare)
	next = slices.Compact(next)
	if w.failing {
		r.log.Info("a name can be resolved again", "name", w.name, "addresses", next)
	}
	w.failing, w.missing, w.retry = false, time.Time{}, 0
	r.replace(w, next)
	return min(max(got.ttl, r.minTTL), r.maxTTL)
}

// failed keeps what a name had, and returns when to ask again.
func (r *Resolver) failed(w *watch, err error) time.Duration {
	result, now := "error", time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(err, ErrNotFound) {
		result = "not_found"
		if w.missing.IsZero() {
			w.missing = now
		}
	} else {
		w.missing = time.Time{}
	}
	r.lookups.WithLabelValues(result).Inc()
	if !w.failing {
		w.failing = true
		r.log.Error("a name can't be resolved; its last addresses stay in use", "name", w.name, "addresses", w.addresses, "error", err.Error())
	}
	if !w.missing.IsZero() && now.Sub(w.missing) >= notFoundPatience && len(w.addresses) > 0 {
		r.log.Error("a name has not existed for long; its last addresses are not used any more", "name", w.name, "addresses", w.addresses, "for", notFoundPatience.String())
		r.replace(w, nil)
	}
	w.retry = min(max(2*w.retry, minRetry), maxRetry)
	return w.retry
}

// replace sets a name's addresses; w.mu is held.
func (r *Resolver) replace(w *watch, next []netip.Addr) {
	if slices.Equal(w.addresses, next) {
		return
	}
	if len(w.addresses) > 0 && len(next) > 0 {
		r.log.Info("the addresses of a name have changed", "name", w.name, "addresses", next, "before", w.addresses)
	}
	w.addresses = next
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

var (
	addressesDesc = prometheus.NewDesc("gateway_dns_addresses", "Addresses in use of an endpoint's name.", []string{"name"}, nil)
	failingDesc   = prometheus.NewDesc("gateway_dns_failing", "1 while the last lookup of an endpoint's name has failed, so that its last addresses stay in use.", []string{"name"}, nil)
)

// Describe implements prometheus.Collector.
func (r *Resolver) Describe(ch chan<- *prometheus.Desc) {
	ch <- addressesDesc
	ch <- failingDesc
	r.lookups.Describe(ch)
}

// Collect implements prometheus.Collector.
func (r *Resolver) Collect(ch chan<- prometheus.Metric) {
	r.lookups.Collect(ch)
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, w := range r.names {
		w.mu.Lock()
		n, failing := len(w.addresses), 0.0
		if w.failing {
			failing = 1
		}
		w.mu.Unlock()
		ch <- prometheus.MustNewConstMetric(addressesDesc, prometheus.GaugeValue, float64(n), name)
		ch <- prometheus.MustNewConstMetric(failingDesc, prometheus.GaugeValue, failing, name)
	}
}
