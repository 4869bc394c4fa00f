// Package mirror sends a share of a route's requests to another service as well. The copies are made of what the
// route's service is to see, leave on attempts of their own, and nobody waits for what comes of them.
package mirror

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/subrequest"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/routing"
)

const (
	// maxInFlight is how many copies of a route's requests may be under way. What is above it is dropped: a service that
	// is slower than the route's must not gather them.
	maxInFlight = 256
	// timeout is the longest that a copy may take.
	timeout = 30 * time.Second
)

// Mirror is a route's. It is safe for concurrent use; nil mirrors nothing.
type Mirror struct {
	client *subrequest.Client
	share  *routing.Mirror
	count  *counters
	panics *telemetry.Panics
}

// New returns the mirror of a route. Its metrics are those of the route's and the service's names in sets. panics is
// told of copies that panic.
func New(
	route string, client *subrequest.Client, m *routing.Mirror, sets *telemetry.Sets, panics *telemetry.Panics,
) *Mirror {
	return &Mirror{client: client, share: m, count: newCounters(sets, route, client.Name()), panics: panics}
}

// Begin makes a copy of a request that is about to be sent, if it is one of the share. It comes when the request is as
// the service is to see it, and before its body is read. It does not wait. The copy, nil where there is none, has to be
// told of the exchange's end. random returns a number from 0 and below 1.
func (m *Mirror) Begin(x *exchange.Exchange, random func() float64) *Copy {
	if m == nil || m.share.Percent < 100 && !m.share.Takes(random()) {
		return nil
	}
	req := &x.Request
	switch {
	case x.RPC != exchange.NoRPC || req.Upgrade != "":
		return nil
	case req.ContentLength > m.share.MaxBodyBytes:
		m.count.tooLarge.Add(1)
		return nil
	case m.count.inFlight.Add(1) > maxInFlight:
		m.count.inFlight.Add(-1)
		m.count.dropped.Add(1)
		return nil
	}
	c := copyOf(x)
	c.mirror = m
	if req.ContentLength == 0 {
		c.send()
	} else {
		x.Down = &down{Downstream: x.Down, copied: c}
	}
	return c
}

// End says that the exchange is over: a copy whose body has not come to its end by then is dropped.
func (c *Copy) End() {
	if c != nil {
		c.giveUp(c.mirror.count.dropped)
	}
}

// Copy is one request on its way to the mirror's service. It has memory of its own.
type Copy struct {
	mirror  *Mirror
	of      *exchange.Exchange // who has sent it
	request subrequest.Request
	left    atomic.Bool // it has been sent, or given up
}

// copyOf copies all but the body.
func copyOf(x *exchange.Exchange) *Copy {
	req := &x.Request
	path, host := req.Path, req.Host
	if x.Forward.Path != "" {
		path = x.Forward.Path
	}
	if x.Forward.Host != "" {
		host = x.Forward.Host
	}
	c := &Copy{request: subrequest.Request{
		Method: strings.Clone(req.Method), Path: strings.Clone(path), Query: strings.Clone(req.RawQuery),
		Host: strings.Clone(host), DiscardsBody: true,
	}}
	for name, value := range req.Header.All() {
		if !exchange.KnownName(name).Renewed() {
			c.request.Header.Add(strings.Clone(name), strings.Clone(value))
		}
	}
	of := &exchange.Exchange{}
	of.ID, of.Peer, of.Client, of.ClientText = strings.Clone(x.ID), x.Peer, x.Client, strings.Clone(x.ClientText)
	of.Scheme, of.TLS, of.Route, of.Shard = x.Scheme, x.TLS, x.Route, x.Shard
	of.Forwarded = x.Forwarded
	of.Forwarded.For, of.Forwarded.Host = strings.Clone(x.ForwardedFor()), strings.Clone(x.ForwardedHost())
	of.Forwarded.Standard, of.Forwarded.Via = strings.Clone(x.Forwarded.Standard), strings.Clone(x.Forwarded.Via)
	c.of = of
	return c
}

// send sends the copy, in a goroutine of its own.
func (c *Copy) send() {
	if !c.left.CompareAndSwap(false, true) {
		return
	}
	m := c.mirror
	go func() {
		defer m.count.inFlight.Add(-1)
		defer func() {
			if v := recover(); v != nil {
				m.count.failed.Add(1)
				m.panics.Caught("a copy of a request", c.of.Route, v)
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		res, err := m.client.Do(ctx, c.of, &c.request)
		if err != nil || res.Status >= 500 {
			m.count.failed.Add(1)
		} else {
			m.count.answered.Add(1)
		}
	}()
}

// giveUp drops the copy of a request whose body is too long, or breaks off.
func (c *Copy) giveUp(count *telemetry.Counter) {
	if c.left.CompareAndSwap(false, true) {
		count.Add(1)
		c.mirror.count.inFlight.Add(-1)
		c.request.Body = nil
	}
}

// down is the client's side of an exchange whose request's body is copied as it passes.
type down struct {
	exchange.Downstream
	copied *Copy
}

// BufferedBody implements exchange.Downstream.
func (d *down) BufferedBody() ([]byte, bool, error) {
	part, whole, err := d.Downstream.BufferedBody()
	d.add(part, whole, err)
	return part, whole, err
}

// NextBody implements exchange.Downstream.
func (d *down) NextBody() ([]byte, error) {
	part, err := d.Downstream.NextBody()
	if err == io.EOF {
		d.add(nil, true, nil)
	} else {
		d.add(part, false, err)
	}
	return part, err
}

func (d *down) add(part []byte, whole bool, err error) {
	c := d.copied
	if c.left.Load() {
		return
	}
	switch {
	case err != nil:
		c.giveUp(c.mirror.count.dropped)
		return
	case int64(len(c.request.Body)+len(part)) > c.mirror.share.MaxBodyBytes:
		c.giveUp(c.mirror.count.tooLarge)
		return
	}
	if c.request.Body = append(c.request.Body, part...); whole {
		c.send()
	}
}
