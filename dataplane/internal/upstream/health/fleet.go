package health

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"gateway.internal/dataplane/internal/upstream/balance"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

const (
	// settledChecks is the least number of checks in a row with the same outcome that make a state settled.
	settledChecks = 3
	// aloneAfter is how long the number of nodes is taken for valid after the stream that told it has ended.
	aloneAfter = 10 * time.Second
)

// SetNodes tells how many nodes check the same endpoints, this one among them; 0 and 1: no other does.
func (c *Checker) SetNodes(nodes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopWaiting()
	c.share(nodes)
}

// Unshared tells that nobody knows any more how many nodes there are. Without another SetNodes this one checks alone
// after 10 seconds.
func (c *Checker) Unshared() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes <= 1 || c.alone != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(aloneAfter, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.alone == timer {
			c.alone = nil
			c.share(0)
		}
	})
	c.alone = timer
}

// stopWaiting ends what Unshared has begun; the caller holds mu.
func (c *Checker) stopWaiting() {
	if c.alone != nil {
		c.alone.Stop()
		c.alone = nil
	}
}

// share takes over how many nodes there are; the caller holds mu. Where there are fewer, checks that wait for longer
// than an interval are made within one.
func (c *Checker) share(nodes int) {
	fewer := nodes < c.nodes
	c.nodes = nodes
	if !fewer {
		return
	}
	now := time.Now()
	for _, w := range c.watches {
		if plain := w.plainInterval(); w.index >= 0 && w.at.Sub(now) > plain {
			c.schedule.remove(w)
			c.schedule.add(w, now.Add(rand.N(plain)))
		}
	}
	c.signal()
}

// Look has endpoints checked within the timeout of a check whose interval is stretched, which it is not again before
// their state is settled.
func (c *Checker) Look(list []*streamv1.CheckedEndpoint) {
	wanted := make(map[endpointKey]bool, len(list))
	for _, e := range list {
		wanted[endpointKey{e.GetServiceId(), e.GetHost(), e.GetPort()}] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, w := range c.watches {
		t := &w.target
		if !wanted[endpointKey{t.ServiceID, t.Host, t.Port}] || w.stretch(c.nodes) <= 1 {
			continue
		}
		w.passed, w.failed = 0, 0 // the verdict stays: it changes by checks that follow
		if w.index >= 0 {
			c.schedule.remove(w)
			c.schedule.add(w, now.Add(rand.N(t.Check.Timeout)))
		}
	}
	c.signal()
}

// plainInterval is that of the configuration.
func (w *watch) plainInterval() time.Duration {
	if w.target.State.Reasons().Has(balance.ChecksFailed) {
		return w.target.Check.UnhealthyInterval
	}
	return w.target.Check.Interval
}

// settled reports whether the last checks had the same outcome.
func (w *watch) settled() bool {
	check := &w.target.Check
	return w.passed >= max(settledChecks, check.Healthy) || w.failed >= max(settledChecks, check.Unhealthy)
}

// stretch is by how much the interval is longer, on average, than that of the configuration; at least 1.
func (w *watch) stretch(nodes int) float64 {
	checkers := w.target.Check.Checkers
	if checkers == 0 || nodes <= checkers || w.own || !w.settled() {
		return 1
	}
	return float64(nodes) / float64(checkers)
}

// interval returns how long after the begin of a check the next one begins. A stretched interval varies by half, so
// that the checks of nodes that have looked together spread, but is never below that of the configuration.
func (w *watch) interval(nodes int) time.Duration {
	interval := w.plainInterval()
	vary := interval * time.Duration(w.target.Check.JitterPercent) / 100
	interval += rand.N(2*vary+1) - vary
	stretch := w.stretch(nodes)
	if stretch > 1 {
		spread := min(stretch-1, stretch/2)
		stretch += (2*rand.Float64() - 1) * spread
	}
	return time.Duration(float64(interval) * stretch)
}

// isOwn reports whether the target is another one on each node: what is at its address is on the machine, or the link.
func isOwn(t *Target) bool {
	if _, isUnix := config.UnixPath(t.Host); isUnix {
		return true
	}
	host := t.Host
	if h, _, err := net.SplitHostPort(t.Dial[0]); err == nil {
		host = h
	}
	if address, err := netip.ParseAddr(host); err == nil {
		address = address.Unmap()
		return address.IsLoopback() || address.IsLinkLocalUnicast()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
