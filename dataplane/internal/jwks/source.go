// Package jwks has the keys of issuers at hand that publish them by URL (RFC 7517 section 5): fetched in the
// background, again before they are old, and kept while the issuer can't be asked. It does not know what the keys are
// used for.
package jwks

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/egress"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/backoff"
	"gateway.internal/shared/jose"
)

// The times and limits of a source.
const (
	// DefaultAge is how long keys count as new where the issuer does not say so by Cache-Control, and MinAge and MaxAge
	// bound what it says.
	DefaultAge = 5 * time.Minute
	MinAge     = 30 * time.Second
	MaxAge     = 24 * time.Hour
	// RefreshInterval is the least time between two fetches that unknown keys are the reason of, and FirstInterval that
	// while there are no keys at all.
	RefreshInterval = 10 * time.Second
	FirstInterval   = time.Second
	// MaxSetBytes is the longest set of keys.
	MaxSetBytes = 256 << 10
	// maxWaiting is how many requests wait for a fetch at a time.
	maxWaiting = 128
)

// Settings are those of a source.
type Settings struct {
	// Fetch asks for the keys.
	Fetch func(ctx context.Context) (*egress.Response, error)
	// Name is what logs call the issuer.
	Name string
	// Log takes when fetching begins to fail, and when it succeeds again.
	Log *slog.Logger
	// Metrics has the counters; their label "issuer" is Name.
	Metrics *telemetry.Set
}

// FetchURL returns what asks for the keys at a URL.
func FetchURL(client *egress.Client, url string) func(ctx context.Context) (*egress.Response, error) {
	return func(ctx context.Context) (*egress.Response, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Accept", "application/jwk-set+json, application/json")
		r.Header.Set("User-Agent", "gateway")
		return client.Do(r, MaxSetBytes)
	}
}

// Source has the keys of one issuer. It is safe for concurrent use.
type Source struct {
	settings Settings
	set      atomic.Pointer[jose.Set]
	stop     context.CancelFunc
	ended    chan struct{}
	wake     chan struct{}

	fetched, failed *telemetry.Counter
	count, since    *telemetry.Gauge

	mu      sync.Mutex
	flight  *flight   // the fetch that is under way or asked for; nil: none
	asked   time.Time // when requests have last had it fetched
	err     error     // of the last fetch
	failing bool
}

// flight is one fetch that requests may wait for.
type flight struct {
	done    chan struct{}
	waiting int
}

// New returns a source that begins to fetch.
func New(s Settings) *Source {
	ctx, stop := context.WithCancel(context.Background())
	src := &Source{
		settings: s, stop: stop, ended: make(chan struct{}), wake: make(chan struct{}, 1),
		flight: &flight{done: make(chan struct{})},
	}
	fetches := func(result string) *telemetry.Counter {
		return s.Metrics.Counter("keys_fetches_total",
			"Fetches of issuers' keys: ok, or failed, where the keys before are kept.", "issuer", s.Name, "result", result)
	}
	src.fetched, src.failed = fetches("ok"), fetches("failed")
	src.count = s.Metrics.Gauge("keys", "Keys of issuers that tokens are verified by.", "issuer", s.Name)
	src.since = s.Metrics.Gauge("keys_fetched_timestamp_seconds",
		"When issuers' keys were last fetched, in Unix time; 0: never.", "issuer", s.Name)
	go src.run(ctx)
	return src
}

// Close ends the fetching, and waits for that.
func (s *Source) Close() error {
	s.stop()
	<-s.ended
	return nil
}

// Set returns the newest keys; nil: none have come yet.
func (s *Source) Set() *jose.Set { return s.set.Load() }

// Wait returns the keys, and waits for the first fetch where none have come yet. The error says why there are none.
func (s *Source) Wait(ctx context.Context) (*jose.Set, error) {
	if set := s.set.Load(); set != nil {
		return set, nil
	}
	s.Refresh(ctx)
	if set := s.set.Load(); set != nil {
		return set, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return nil, fmt.Errorf("the keys of %s have not been fetched yet", s.settings.Name)
}

// MayRefresh reports whether Refresh would wait for a fetch. It does not wait.
func (s *Source) MayRefresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mayRefresh()
}

func (s *Source) mayRefresh() bool {
	if s.flight != nil {
		return s.flight.waiting < maxWaiting
	}
	interval := RefreshInterval
	if s.set.Load() == nil {
		interval = FirstInterval
	}
	return time.Since(s.asked) >= interval
}

// Refresh has the keys fetched since one is wanted that they don't have, and waits for it. It reports whether they
// were: not so where that was done a moment ago, so that tokens with unknown keys make neither the issuer nor the node
// work.
func (s *Source) Refresh(ctx context.Context) bool {
	s.mu.Lock()
	if !s.mayRefresh() {
		s.mu.Unlock()
		return false
	}
	f := s.flight
	if f == nil {
		s.asked = time.Now()
		f = &flight{done: make(chan struct{})}
		s.flight = f
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	f.waiting++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		f.waiting--
		s.mu.Unlock()
	}()
	select {
	case <-f.done:
		return true
	case <-s.ended:
	case <-ctx.Done():
	}
	return false
}

// run fetches until it is stopped.
func (s *Source) run(ctx context.Context) {
	defer close(s.ended)
	again := backoff.Exponential{Least: time.Second, Most: time.Minute}
	for {
		age, err := s.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := age*8/10 + time.Duration(rand.Int64N(int64(age/10)+1)) // ahead of its age, and not all nodes at once
		if err == nil {
			again.Reset()
			again.Most = time.Minute
		} else {
			if s.set.Load() == nil {
				again.Most = 5 * time.Second // requests are refused meanwhile
			}
			wait = again.Next()
		}
		s.done(err)
		if !backoff.Sleep(ctx, wait, s.wake) {
			return
		}
		s.mu.Lock()
		if s.flight == nil {
			s.flight = &flight{done: make(chan struct{})}
		}
		s.mu.Unlock()
	}
}

// done tells those who wait, and the log where it has begun or ended to fail.
func (s *Source) done(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; s.flight != nil {
		close(s.flight.done)
		s.flight = nil
	}
	select {
	case <-s.wake: // it was for this fetch
	default:
	}
	failing := err != nil
	if failing != s.failing && s.settings.Log != nil {
		if failing {
			s.settings.Log.Warn("the keys of an issuer can't be fetched; those before are kept", "issuer", s.settings.Name,
				"keys", s.set.Load().Len(), "error", err.Error())
		} else {
			s.settings.Log.Info("the keys of an issuer are fetched again", "issuer", s.settings.Name)
		}
	}
	s.failing = failing
}

// fetch asks once, and returns how long the answer is new.
func (s *Source) fetch(ctx context.Context) (age time.Duration, err error) {
	defer func() {
		if err != nil && ctx.Err() == nil {
			s.failed.Add(1)
		}
	}()
	res, err := s.settings.Fetch(ctx)
	if err != nil {
		return 0, err
	}
	if res.Status != http.StatusOK {
		return 0, fmt.Errorf("the keys of %s: the server answers with %d", s.settings.Name, res.Status)
	}
	set, problems, err := jose.ParseSet(res.Body, false)
	if err != nil {
		return 0, fmt.Errorf("the keys of %s: the answer %w", s.settings.Name, err)
	}
	before := s.set.Load()
	set.Succeed(before)
	s.set.Store(set)
	s.fetched.Add(1)
	s.count.Add(int64(set.Len()) - s.count.Add(0))
	s.since.Add(time.Now().Unix() - s.since.Add(0))
	if set.Len() == 0 && before.Len() != 0 && s.settings.Log != nil {
		attrs := []any{"issuer", s.settings.Name}
		if len(problems) > 0 {
			attrs = append(attrs, "key", problems[0].Index, "problem", problems[0].Err.Error())
		}
		s.settings.Log.Warn("an issuer publishes no key any more that tokens can be verified by", attrs...)
	}
	return ageOf(res.Header), nil
}

// ageOf returns how long a response is new, as Cache-Control says (RFC 9111 section 5.2.2.1), within bounds.
func ageOf(h http.Header) time.Duration {
	for _, field := range h.Values("Cache-Control") {
		for d := range strings.SplitSeq(field, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
			if !strings.EqualFold(name, "max-age") {
				continue
			}
			seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32)
			if err != nil || seconds < 0 {
				continue
			}
			return min(max(time.Duration(seconds)*time.Second, MinAge), MaxAge)
		}
	}
	return DefaultAge
}
