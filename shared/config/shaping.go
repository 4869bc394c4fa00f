package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/match"
)

const (
	// maxConditions is the most header fields, cookies, consumers and groups, each, that a backend may match by.
	maxConditions = 64
	// maxBufferBytes is the longest body of a request that can be read before its service is asked.
	maxBufferBytes = 64 << 20
)

// sticky checks what leads the requests of one client to the same backend.
func (c *checker) sticky(m *configv1.Route) {
	s := m.GetSticky()
	if s == nil {
		return
	}
	if len(m.GetBackends()) == 0 {
		c.fail("sticky", "", "is only for routes with backends: there is nothing to choose from")
	}
	switch key := s.GetKey().(type) {
	case *configv1.Sticky_Cookie:
		c.clientCookie("sticky.cookie", key.Cookie)
	case *configv1.Sticky_Header:
		if !token.MatchString(key.Header) {
			c.fail("sticky.header", key.Header, "has to be the name of a header field such as X-Session")
		}
	case *configv1.Sticky_ClientIp:
		if !key.ClientIp {
			c.fail("sticky.client_ip", "false", "has to be true; leave sticky out where requests are shared out by chance")
		}
	case *configv1.Sticky_Consumer:
		if !key.Consumer {
			c.fail("sticky.consumer", "false", "has to be true; leave sticky out where requests are shared out by chance")
		}
	default:
		c.fail("sticky", "", "needs what tells clients apart: one of cookie, header, client_ip and consumer")
	}
}

// canaries checks which requests backends get whatever the weights say, and returns their shares in percent together.
func (c *checker) canaries(backends []*configv1.Backend) (percent float64) {
	for i, b := range backends {
		m := b.GetMatch()
		if m == nil {
			continue
		}
		field := fmt.Sprintf("backends[%d].match", i)
		conditions, errs := match.ParseConditions(field, m)
		for _, e := range errs {
			c.fail(e.Field, e.Value, "%s", e.Message)
		}
		if conditions == nil && m.Percent == nil {
			c.fail(field, "", "needs a condition: one of headers, cookies, consumers, groups and percent")
		}
		for _, l := range []struct {
			name string
			n    int
		}{
			{"headers", len(m.GetHeaders())}, {"cookies", len(m.GetCookies())},
			{"consumers", len(m.GetConsumers())}, {"groups", len(m.GetGroups())},
		} {
			if l.n > maxConditions {
				c.fail(field+"."+l.name, "", "has %d entries; %d are allowed", l.n, maxConditions)
			}
		}
		c.names(field+".consumers", m.GetConsumers())
		c.names(field+".groups", m.GetGroups())
		if p := m.GetPercent(); m.Percent != nil {
			c.percent(field+".percent", p)
			percent += p
		}
	}
	if percent > 100.0005 {
		c.fail("backends", strconv.FormatFloat(percent, 'g', -1, 64),
			"have percentages of more than 100 in match.percent together")
	}
	return percent
}

// percent checks a share of requests, of which a thousandth of a percent is the least.
func (c *checker) percent(field string, p float64) {
	if !(p > 0 && p <= 100) || math.Abs(p*1000-math.Round(p*1000)) > 1e-6 {
		c.fail(field, strconv.FormatFloat(p, 'g', -1, 64),
			"has to be above 0, at most 100, and have at most three decimal places")
	}
}

// names checks a list of names of resources that is looked up when requests come.
func (c *checker) names(field string, names []string) {
	for i, n := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		if !ValidName(n) {
			c.fail(at, n, "has to be a name of a-z, 0-9, \".\", \"_\" and \"-\"")
		}
		if slices.Contains(names[:i], n) {
			c.fail(at, n, "is there twice")
		}
	}
}

// fault checks what makes requests late, or answers them.
func (c *checker) fault(f *configv1.Fault) {
	if f == nil {
		return
	}
	if f.GetDelay() == nil && f.GetAbort() == nil {
		c.fail("fault", "", "does nothing: it needs delay, abort or both")
	}
	_, errs := match.ParseFields("fault.headers", f.GetHeaders())
	for _, e := range errs {
		c.fail(e.Field, e.Value, "%s", e.Message)
	}
	if len(f.GetHeaders()) > maxConditions {
		c.fail("fault.headers", "", "has %d entries; %d are allowed", len(f.GetHeaders()), maxConditions)
	}
	if d := f.GetDelay(); d != nil {
		if d.GetFixed() == "" {
			c.fail("fault.delay.fixed", "", "is required: how late requests are, such as 250ms")
		}
		c.duration("fault.delay.fixed", d.GetFixed(), time.Millisecond, 10*time.Minute)
		if d.Percent != nil {
			c.percent("fault.delay.percent", d.GetPercent())
		}
	}
	if a := f.GetAbort(); a != nil {
		if a.GetStatus() != 0 {
			c.number("fault.abort.status", a.GetStatus(), 400, 599)
		}
		if a.GrpcStatus != nil {
			c.number("fault.abort.grpc_status", a.GetGrpcStatus(), 1, 16)
		}
		if a.Percent != nil {
			c.percent("fault.abort.percent", a.GetPercent())
		}
	}
}

// LargerStreams is what becomes of bodies that are too long to be read first, where they are not refused.
const LargerStreams = "stream"

func (c *checker) bufferRequest(b *configv1.BufferRequest) {
	if b == nil {
		return
	}
	if n := b.GetMaxBytes(); n < 1 || n > maxBufferBytes {
		c.fail("buffer_request.max_bytes", strconv.FormatInt(n, 10), "has to be from 1 to %d", maxBufferBytes)
	}
	c.oneOf("buffer_request.larger", b.GetLarger(), "refuse", LargerStreams)
}
