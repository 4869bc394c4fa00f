package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/middleware"
	"gateway.internal/shared/ratelimit"
)

// The limits of resources.
const (
	maxNameLength    = 128
	maxLabels        = 64
	maxLabelLength   = 256
	maxEndpoints     = 10_000
	maxBackends      = 64
	maxMiddleware    = 64
	maxGroups        = 256
	maxWeight        = 1000
	maxBodyBytes     = 64 << 10
	maxTimeoutMillis = 3_600_000
)

// checker validates one resource by itself.
type checker struct {
	problems *Problems
	kind     Kind
	name     string
	location string
	written  map[string]string // what a user wrote in references in place of these ids
	unknown  []string          // the fields whose values are not known; nothing more is said of them and what they are in
	unread   *bool             // set when one of them would have a problem
	leftOut  bool              // a certificate may be without its key
}

func (c *checker) fail(field, value, format string, args ...any) {
	for _, path := range c.unknown {
		if rest, ok := strings.CutPrefix(path, field); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			*c.unread = true
			return
		}
	}
	if name, ok := c.written[value]; ok {
		value = name
	}
	c.problems.add(c.kind, c.name, c.location, field, value, format, args...)
}

// validate checks every resource that is put by itself, and that names are unique.
func (p *planner) validate() {
	for _, s := range p.order {
		if s.after == nil {
			continue
		}
		c := &checker{&p.problems, s.edit.Kind, s.after.GetName(), s.edit.Location, s.written, s.unknown,
			&p.unread, p.opts.LeftOut}
		c.common(s.after)
		if e := p.base.ByID(c.kind, c.name); e != nil {
			c.fail("name", c.name, "is the id of %s %q", e.Kind, e.Name())
		}
		if e := p.base.ByName(c.kind, c.name); e != nil && e.ID() != s.after.GetId() {
			if other := p.staged[c.kind][e.ID()]; other == nil || other.after != nil && other.after.GetName() == c.name {
				p.refuse(s.edit, c.name, &Exists{c.kind, c.name})
			}
		}
		describe(c.kind).check(c, s.after)
	}
	p.checkCredentials()
}

// ValidName reports whether s can be a resource's name: 1 to 128 of [a-z0-9._-], the first a letter or a digit.
func ValidName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= maxNameLength
}

func (c *checker) common(m Message) {
	if !ValidName(c.name) {
		c.fail("name", c.name, "has to be 1 to %d of a-z, 0-9, \".\", \"_\" and \"-\", the first a letter or a digit", maxNameLength)
	}
	if len(c.name) == len(uuid.Nil.String()) && uuid.Validate(c.name) == nil {
		c.fail("name", c.name, "looks like an id: whoever names a resource by its id would get this one, or the other way round")
	}
	labels := m.GetLabels()
	if len(labels) > maxLabels {
		c.fail("labels", "", "has %d entries; %d are allowed", len(labels), maxLabels)
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k == "" || len(k) > maxLabelLength || len(labels[k]) > maxLabelLength {
			c.fail("labels."+k, labels[k], "keys have 1 to %d bytes and values up to %[1]d", maxLabelLength)
		}
	}
}

func (c *checker) duration(field, value string, low, high time.Duration) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	d, err := ParseDuration(value)
	if err != nil {
		c.fail(field, value, "%s", err)
		return 0, false
	}
	if d < low || d > high {
		c.fail(field, value, "has to be from %s to %s", shortDuration(low), shortDuration(high))
		return 0, false
	}
	return d, true
}

func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func (c *checker) number(field string, n, low, high uint32) {
	if n < low || n > high {
		c.fail(field, strconv.FormatUint(uint64(n), 10), "has to be from %d to %d", low, high)
	}
}

func (c *checker) oneOf(field, value string, valid ...string) {
	if value != "" && !slices.Contains(valid, value) {
		c.fail(field, value, "has to be one of %s", strings.Join(valid, ", "))
	}
}

func (c *checker) policy(m *configv1.Policy) {
	timeout, hasTimeout := c.duration("timeout", m.GetTimeout(), time.Millisecond, 24*time.Hour)
	limit, hasLimit := c.duration("max_timeout", m.GetMaxTimeout(), time.Millisecond, 24*time.Hour)
	if hasTimeout && hasLimit && timeout > limit {
		c.fail("timeout", m.GetTimeout(), "is above max_timeout %s", m.GetMaxTimeout())
	}
	if m.MaxRequestBytes != nil && m.GetMaxRequestBytes() < 0 {
		c.fail("max_request_bytes", strconv.FormatInt(m.GetMaxRequestBytes(), 10), "has to be 0 or more")
	}
	c.duration("stream_idle_timeout", m.GetStreamIdleTimeout(), time.Millisecond, 24*time.Hour)
	c.retries(m)
	c.upgrades(m.GetUpgrades())
	c.priorities(m)
	c.fault(m.GetFault())
	c.bufferRequest(m.GetBufferRequest())
	c.errorPages(m)
	ratelimit.CheckAll("rate_limits", m.GetRateLimits(), c.fail)
}

func (c *checker) consumer(m *configv1.Consumer) {
	if len(m.GetGroups()) > maxGroups {
		c.fail("groups", "", "has %d entries; %d are allowed", len(m.GetGroups()), maxGroups)
	}
	for i, g := range m.GetGroups() {
		field := fmt.Sprintf("groups[%d]", i)
		if !ValidName(g) {
			c.fail(field, g, "has to be a name of a-z, 0-9, \".\", \"_\" and \"-\"")
		}
		if slices.Contains(m.GetGroups()[:i], g) {
			c.fail(field, g, "is there twice")
		}
	}
	c.credentials(m.GetCredentials())
}

func (c *checker) middleware(m *configv1.Middleware) {
	_, errs := middleware.Parse(m.GetType(), m.GetConfig())
	for _, e := range errs {
		c.fail(e.Field, e.Value, "%s", e.Message)
	}
	c.number("order", m.GetOrder(), 0, 1_000_000)
}

func (c *checker) pipeline(m *configv1.Pipeline) {
	switch n := len(m.GetMiddlewareIds()); {
	case n == 0:
		c.fail("middleware_ids", "", "is empty: a pipeline has at least one middleware")
	case n > maxMiddleware:
		c.fail("middleware_ids", "", "has %d entries; %d are allowed", n, maxMiddleware)
	}
	for i, id := range m.GetMiddlewareIds() {
		field := fmt.Sprintf("middleware_ids[%d]", i)
		if id == "" {
			c.fail(field, "", "is empty: name a middleware")
		} else if slices.Contains(m.GetMiddlewareIds()[:i], id) {
			c.fail(field, id, "is there twice")
		}
	}
	c.number("timeout_ms", m.GetTimeoutMs(), 0, maxTimeoutMillis)
}
