// Package health checks endpoints actively: by HTTP requests or by opening connections, each at its own interval. It writes
// the verdicts into the endpoints' state, which balancers read, and remembers them for reports. It does not see traffic.
package health

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/dataplane/internal/upstream/balance"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// maxConcurrent bounds the checks that run at once.
const maxConcurrent = 256

// Target is one endpoint to check.
type Target struct {
	// ServiceID and Service are the service's id and name.
	ServiceID, Service string
	// Host and Port are the endpoint's.
	Host string
	Port uint32
	// State takes the verdict.
	State *balance.State
	// Check says how.
	Check config.HealthCheck
}

type key struct {
	service, host string
	port          uint32
}

// Prober makes one check; nil means healthy.
type Prober func(ctx context.Context, t Target) error

// Checker runs the checks of all targets. Its methods are safe for concurrent use.
type Checker struct {
	log   *slog.Logger
	probe Prober
	slots chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex
	running map[key]*watch
	changed map[key]*streamv1.EndpointHealth
}

type watch struct {
	target Target
	stop   context.CancelFunc
	last   *streamv1.EndpointHealth
}

// NewChecker returns a checker without targets. probe may be nil for real checks.
func NewChecker(log *slog.Logger, probe Prober) *Checker {
	if probe == nil {
		probe = newProbe()
	}
	return &Checker{
		log: log, probe: probe, slots: make(chan struct{}, maxConcurrent),
		running: map[key]*watch{}, changed: map[key]*streamv1.EndpointHealth{},
	}
}

// Set makes these the targets. Those that are checked just so already go on as they are.
func (c *Checker) Set(targets []Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := make(map[key]bool, len(targets))
	for _, t := range targets {
		k := key{t.ServiceID, t.Host, t.Port}
		wanted[k] = true
		if w := c.running[k]; w != nil {
			if w.target == t {
				continue
			}
			w.stop()
		}
		ctx, stop := context.WithCancel(context.Background())
		w := &watch{target: t, stop: stop}
		c.running[k] = w
		c.wg.Go(func() { c.watch(ctx, w) })
	}
	for k, w := range c.running {
		if !wanted[k] {
			w.stop()
			w.target.State.SetHealthy(true)
			delete(c.running, k)
			delete(c.changed, k)
		}
	}
}

// Close ends all checks and waits for them.
func (c *Checker) Close() {
	c.Set(nil)
	c.wg.Wait()
}

// Report returns the verdicts that are new since the last call; all tells to return every one.
func (c *Checker) Report(all bool) []*streamv1.EndpointHealth {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*streamv1.EndpointHealth
	if all {
		for _, w := range c.running {
			if w.last != nil {
				list = append(list, w.last)
			}
		}
	} else {
		for _, h := range c.changed {
			list = append(list, h)
		}
	}
	clear(c.changed)
	return list
}

// watch checks one target until ctx ends. The first check is soon; all are spread by a tenth of the interval.
func (c *Checker) watch(ctx context.Context, w *watch) {
	t := w.target
	passed, failed := 0, 0
	wait := time.Duration(rand.Int64N(int64(min(t.Check.Interval, time.Second))/10 + 1))
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		select {
		case <-ctx.Done():
			return
		case c.slots <- struct{}{}:
		}
		probeCtx, cancel := context.WithTimeout(ctx, t.Check.Timeout)
		err := c.probe(probeCtx, t)
		cancel()
		<-c.slots
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			passed, failed = passed+1, 0
		} else {
			passed, failed = 0, failed+1
		}
		c.judge(w, err, passed, failed)
		wait = t.Check.Interval - t.Check.Interval/20 + time.Duration(rand.Int64N(int64(t.Check.Interval)/10+1))
	}
}

// judge applies the thresholds. An endpoint that was never checked counts as healthy, and one passed check keeps it so.
func (c *Checker) judge(w *watch, err error, passed, failed int) {
	t := w.target
	was := t.State.Healthy()
	now := was
	switch {
	case was && failed >= t.Check.Unhealthy:
		now = false
	case !was && passed >= t.Check.Healthy:
		now = true
	}
	h := &streamv1.EndpointHealth{
		ServiceId: t.ServiceID, Host: t.Host, Port: t.Port, Healthy: now, CheckedAt: timestamppb.Now(),
	}
	if err != nil {
		h.Error = err.Error()
	}
	c.mu.Lock()
	k := key{t.ServiceID, t.Host, t.Port}
	if c.running[k] != w {
		c.mu.Unlock()
		return
	}
	t.State.SetHealthy(now)
	w.last = h
	c.changed[k] = h
	c.mu.Unlock()
	if was != now {
		attrs := []any{"service", t.Service, "endpoint", net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))), "healthy", now}
		if err != nil {
			attrs = append(attrs, "error", err.Error())
		}
		c.log.Warn("endpoint health changed", attrs...)
	}
}

// newProbe returns the prober that makes real connections, a new one for each check: what is to be known is whether the endpoint
// takes connections.
func newProbe() Prober {
	dialer := &net.Dialer{}
	client := &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, t Target) error {
		address := net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
		if t.Check.Type == "tcp" {
			conn, err := dialer.DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return conn.Close()
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+t.Check.Path, nil)
		if err != nil {
			return err
		}
		req.Header.Set("User-Agent", "gateway-health-check")
		if t.Check.Host != "" {
			req.Host = t.Check.Host
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
		if !t.Check.Passes(res.StatusCode) {
			return fmt.Errorf("status %d", res.StatusCode)
		}
		return nil
	}
}
