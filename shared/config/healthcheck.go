package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/middleware"
)

// The defaults of absent fields.
const (
	DefaultCheckInterval      = 10 * time.Second
	DefaultCheckTimeout       = 2 * time.Second
	DefaultUnhealthyThreshold = 3
	DefaultHealthyThreshold   = 2
	DefaultCheckJitterPercent = 5
	DefaultCheckers           = 10
)

const (
	// MaxCheckedBytes is how much of an answer a check looks at.
	MaxCheckedBytes = 64 << 10

	maxCheckRanges  = 32
	maxCheckHeaders = 32
	maxCheckText    = 1 << 10
)

// HealthCheck is a service's active check with its defaults filled in. Two that are equal check alike.
type HealthCheck struct {
	// Type is "http", "tcp" or "grpc".
	Type string
	// Method and Path are for "http", Host for "http" and "grpc"; an empty Host means the endpoint's own.
	Method, Path, Host string
	// GRPCService is for "grpc"; empty means the server as a whole.
	GRPCService string
	// Send is what "tcp" sends; empty: nothing.
	Send string
	// Contains and Regex are what an answer has to have, of which one at most is set; both empty: anything.
	Contains, Regex string
	// Interval is from one check to the next, UnhealthyInterval that of an endpoint that is unhealthy, and Timeout the
	// longest that one may take.
	Interval, UnhealthyInterval, Timeout time.Duration
	// JitterPercent is how far intervals vary up and down.
	JitterPercent int
	// Checkers is how many nodes' checks an endpoint is to bear; 0: those of all.
	Checkers int
	// Unhealthy and Healthy are how many checks in a row change the verdict.
	Unhealthy, Healthy int
	// UnhealthyAtFirst says that an endpoint gets no requests before its first check has passed.
	UnhealthyAtFirst bool
	// statuses are the ranges that pass, each of two statuses of two bytes; "": 200 to 399.
	statuses string
	// headers are names and values, each with a NUL behind it.
	headers string
}

// Passes reports whether an HTTP status passes the check.
func (h HealthCheck) Passes(status int) bool {
	if h.statuses == "" {
		return status >= 200 && status <= 399
	}
	for i := 0; i+3 < len(h.statuses); i += 4 {
		low, high := int(h.statuses[i])<<8|int(h.statuses[i+1]), int(h.statuses[i+2])<<8|int(h.statuses[i+3])
		if low <= status && status <= high {
			return true
		}
	}
	return false
}

// Headers calls f with each field of a check's request.
func (h HealthCheck) Headers(f func(name, value string)) {
	for rest := h.headers; rest != ""; {
		var name, value string
		name, rest, _ = strings.Cut(rest, "\x00")
		value, rest, _ = strings.Cut(rest, "\x00")
		f(name, value)
	}
}

// healthCheckOf reads a valid check.
func healthCheckOf(h *configv1.HealthCheckConfig, protocol string) *HealthCheck {
	interval := durationOr(h.GetInterval(), DefaultCheckInterval)
	check := &HealthCheck{
		Type: orString(h.GetType(), defaultCheckType(protocol)), Method: orString(h.GetMethod(), "GET"),
		Path: orString(h.GetPath(), "/"), Host: h.GetHost(), GRPCService: h.GetGrpcService(), Send: h.GetSend(),
		Contains: h.GetMatch().GetContains(), Regex: h.GetMatch().GetRegex(),
		Interval: interval, UnhealthyInterval: durationOr(h.GetUnhealthyInterval(), interval),
		Timeout:          durationOr(h.GetTimeout(), min(DefaultCheckTimeout, interval)),
		JitterPercent:    DefaultCheckJitterPercent,
		Checkers:         DefaultCheckers,
		Unhealthy:        numberOr(h.GetUnhealthyThreshold(), DefaultUnhealthyThreshold),
		Healthy:          numberOr(h.GetHealthyThreshold(), DefaultHealthyThreshold),
		UnhealthyAtFirst: h.GetInitialState() == "unhealthy",
	}
	if h.IntervalJitterPercent != nil {
		check.JitterPercent = int(h.GetIntervalJitterPercent())
	}
	if h.Checkers != nil {
		check.Checkers = int(h.GetCheckers())
	}
	pass := func(low, high uint32) {
		check.statuses += string([]byte{byte(low >> 8), byte(low), byte(high >> 8), byte(high)})
	}
	for _, st := range h.GetExpectedStatuses() {
		pass(st, st)
	}
	for _, r := range h.GetStatusRanges() {
		low, high, _ := parseStatusRange(r)
		pass(low, high)
	}
	for _, name := range slices.Sorted(maps.Keys(h.GetHeaders())) {
		check.headers += name + "\x00" + h.GetHeaders()[name] + "\x00"
	}
	return check
}

func defaultCheckType(protocol string) string {
	if protocol == "grpc" || protocol == "grpcs" {
		return "grpc"
	}
	return "http"
}

// parseStatusRange reads a range such as "200-299".
func parseStatusRange(s string) (low, high uint32, ok bool) {
	from, to, _ := strings.Cut(s, "-")
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	ok = errA == nil && errB == nil && a >= 100 && a <= b && b <= 599
	return uint32(a), uint32(b), ok
}

func (c *checker) healthCheck(h *configv1.HealthCheckConfig, protocol string) {
	const at = "health_check_config."
	c.oneOf(at+"type", h.GetType(), "http", "tcp", "grpc")
	if p := h.GetPath(); p != "" && (p[0] != '/' || len(p) > 2048 ||
		strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r >= 0x7f })) {
		c.fail(at+"path", p, `has to start with "/" and may not have spaces`)
	}
	c.checkTimes(h)
	c.number(at+"unhealthy_threshold", h.GetUnhealthyThreshold(), 0, 100)
	c.number(at+"healthy_threshold", h.GetHealthyThreshold(), 0, 100)
	c.oneOf(at+"initial_state", h.GetInitialState(), "healthy", "unhealthy")
	for i, st := range h.GetExpectedStatuses() {
		c.number(fmt.Sprintf("%sexpected_statuses[%d]", at, i), st, 100, 599)
	}
	if n := len(h.GetStatusRanges()); n > maxCheckRanges {
		c.fail(at+"status_ranges", "", "has %d entries; %d are allowed", n, maxCheckRanges)
	}
	for i, r := range h.GetStatusRanges() {
		if _, _, ok := parseStatusRange(r); !ok {
			c.fail(fmt.Sprintf("%sstatus_ranges[%d]", at, i), r,
				`has to be two statuses from 100 to 599, the lower one first, such as "200-299"`)
		}
	}
	if host := h.GetHost(); host != "" && !validAuthority(host) {
		c.fail(at+"host", host, "has to be a host with an optional port")
	}
	if n := h.GetGrpcService(); len(n) > maxLabelLength ||
		strings.ContainsFunc(n, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		c.fail(at+"grpc_service", n, "has to be up to %d visible ASCII characters", maxLabelLength)
	}
	c.checkContent(h, orString(h.GetType(), defaultCheckType(protocol)))
}

// checkTimes checks when checks are made.
func (c *checker) checkTimes(h *configv1.HealthCheckConfig) {
	const at = "health_check_config."
	shortest, ok := c.duration(at+"interval", h.GetInterval(), 100*time.Millisecond, time.Hour)
	if !ok {
		shortest = DefaultCheckInterval
	}
	c.duration(at+"timeout", h.GetTimeout(), 10*time.Millisecond, shortest)
	if h.GetUnhealthyInterval() != "" {
		low := max(100*time.Millisecond, durationOr(h.GetTimeout(), min(DefaultCheckTimeout, shortest)))
		if d, err := ParseDuration(h.GetUnhealthyInterval()); err == nil && d >= 100*time.Millisecond && d < low {
			c.fail(at+"unhealthy_interval", h.GetUnhealthyInterval(), "has to be at least the timeout, %s", shortDuration(low))
		} else {
			c.duration(at+"unhealthy_interval", h.GetUnhealthyInterval(), 100*time.Millisecond, time.Hour)
		}
	}
	c.number(at+"interval_jitter_percent", h.GetIntervalJitterPercent(), 0, 50)
	c.number(at+"checkers", h.GetCheckers(), 0, 1000)
}

// checkContent checks what a check of a type sends and expects.
func (c *checker) checkContent(h *configv1.HealthCheckConfig, kind string) {
	const at = "health_check_config."
	for _, f := range []struct {
		field string
		set   bool
		types []string
	}{
		{"method", h.GetMethod() != "", []string{"http"}},
		{"status_ranges", len(h.GetStatusRanges()) > 0, []string{"http"}},
		{"headers", len(h.GetHeaders()) > 0, []string{"http", "grpc"}},
		{"send", h.GetSend() != "", []string{"tcp"}},
		{"match", h.GetMatch() != nil, []string{"http", "tcp"}},
	} {
		if f.set && !slices.Contains(f.types, kind) {
			c.fail(at+f.field, "", "is for checks of type %s; this one is of type %q",
				strings.Join(f.types, " and "), kind)
		}
	}
	c.oneOf(at+"method", h.GetMethod(), "GET", "HEAD", "OPTIONS", "POST")
	if len(h.GetSend()) > maxCheckText {
		c.fail(at+"send", "", "has %d bytes; %d are allowed", len(h.GetSend()), maxCheckText)
	}
	if len(h.GetHeaders()) > maxCheckHeaders {
		c.fail(at+"headers", "", "has %d entries; %d are allowed", len(h.GetHeaders()), maxCheckHeaders)
	}
	for _, name := range slices.Sorted(maps.Keys(h.GetHeaders())) {
		c.checkHeader(at+"headers."+name, name, h.GetHeaders()[name])
	}
	m := h.GetMatch()
	if m == nil {
		return
	}
	switch text := m.GetContains() + m.GetRegex(); {
	case m.GetContains() != "" && m.GetRegex() != "", text == "":
		c.fail(at+"match", "", "has to have one of contains and regex")
	case len(text) > maxCheckText:
		c.fail(at+"match", "", "has %d bytes; %d are allowed", len(text), maxCheckText)
	case h.GetMethod() == "HEAD":
		c.fail(at+"match", "", `can't be together with the method "HEAD", whose responses have no body`)
	}
	if _, err := regexp.Compile(m.GetRegex()); err != nil {
		c.fail(at+"match.regex", m.GetRegex(), "is no regular expression of RE2: %s", err)
	}
}

// checkHeader checks one field of a check's request.
func (c *checker) checkHeader(field, name, value string) {
	switch lower := strings.ToLower(name); {
	case !middleware.ValidFieldName(name):
		c.fail(field, name, "is no header field name: letters, digits and !#$%%&'*+-.^_`|~")
	case lower == "host":
		c.fail(field, name, "has a field of its own: health_check_config.host")
	case middleware.FramesMessages(lower), lower == "content-type", lower == "expect":
		c.fail(field, name, "is set by the gateway itself")
	case len(value) > maxCheckText || !middleware.ValidFieldValue(value):
		c.fail(field, "", "has to be up to %d bytes without control characters or spaces at the ends", maxCheckText)
	}
}
