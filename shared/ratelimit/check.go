package ratelimit

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// Fail is told of one thing that is wrong: of which field, with which value, and what would be right.
type Fail func(field, value, format string, args ...any)

// maxFill is the longest time in which a token bucket fills up.
const maxFill = 8784 * time.Hour

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckAll tells fail of everything that is wrong with the limits of a policy, in its field.
func CheckAll(field string, list []*configv1.RateLimit, fail Fail) {
	if n := len(list); n > MaxLimits {
		fail(field, "", "has %d entries; %d are allowed", n, MaxLimits)
	}
	names := map[string]bool{}
	for i, m := range list {
		at := fmt.Sprintf("%s[%d].", field, i)
		if m.GetName() == "" {
			fail(at+"name", "", `is required: what is left is known by it, such as "per-client"`)
		} else if names[m.GetName()] {
			fail(at+"name", m.GetName(), "is there twice")
		}
		names[m.GetName()] = true
		Check(m, func(field, value, format string, args ...any) { fail(at+field, value, format, args...) })
	}
}

// Check tells fail of everything that is wrong with a limit, but that it has no name.
func Check(m *configv1.RateLimit, fail Fail) {
	if n := m.GetName(); n != "" && !validName.MatchString(n) {
		fail("name", n, `has to have 1 to 64 characters of a-z, 0-9, ".", "_" and "-", the first one a letter or a digit`)
	}
	oneOf(fail, "algorithm", m.GetAlgorithm(), algorithms)
	algorithm := Algorithm(max(slices.Index(algorithms, m.GetAlgorithm()), 0))
	checkNumbers(m, algorithm, fail)
	checkWindow(m, algorithm, fail)
	checkKey(m.GetKey(), fail)
	checkStore(m, algorithm, fail)
	if h := m.GetCostHeader(); h != "" && !isToken(h) {
		fail("cost_header", h, `has to be the name of a field, such as "X-Cost"`)
	}
}

func checkNumbers(m *configv1.RateLimit, algorithm Algorithm, fail Fail) {
	most := uint32(MaxLimit)
	if algorithm == SlidingWindow {
		most = MaxSliding
	}
	if n := m.GetLimit(); n < 1 || n > most {
		fail("limit", strconv.FormatUint(uint64(n), 10), "has to be from 1 to %d", most)
	}
	switch n := m.GetBurst(); {
	case n > MaxLimit:
		fail("burst", strconv.FormatUint(uint64(n), 10), "has to be from 1 to %d; left out, it is as much as limit", MaxLimit)
	case n > 0 && algorithm != TokenBucket:
		fail("burst", strconv.FormatUint(uint64(n), 10),
			"is of token_bucket alone: %s has no other bound than limit", algorithm)
	}
	if algorithm == TokenBucket && m.GetLimit() > 0 {
		if s := Of(m); s.Increment(s.Burst) > int64(maxFill) {
			fail("burst", strconv.FormatUint(uint64(m.GetBurst()), 10),
				"takes longer than a year to come back at %d in %s", s.Limit, short(s.Window))
		}
	}
	if n := m.GetCost(); n > MaxCost {
		fail("cost", strconv.FormatUint(uint64(n), 10), "has to be from 1 to %d", MaxCost)
	}
	holds := m.GetLimit()
	if m.GetBurst() > 0 {
		holds = m.GetBurst()
	}
	if n := m.GetCost(); n > holds && holds > 0 {
		fail("cost", strconv.FormatUint(uint64(n), 10), "is above what may pass at once, %d: no request would pass", holds)
	}
}

func checkWindow(m *configv1.RateLimit, algorithm Algorithm, fail Fail) {
	w := m.GetWindow()
	calendar := w != "" && slices.Contains(calendars, w)
	switch {
	case calendar && algorithm != FixedWindow:
		fail("window", w, "is of fixed_window alone: give algorithm %q, or a duration", FixedWindow)
	case w != "" && algorithm == Concurrency:
		fail("window", w, "is not of concurrency, which counts what is under way")
	case w != "" && !calendar:
		duration(fail, "window", w, minWindow, maxWindow)
	}
	zone := m.GetTimeZone()
	if zone == "" {
		return
	}
	if _, err := time.LoadLocation(zone); err != nil || zone == "Local" {
		fail("time_zone", zone, `is no zone such as "Europe/Berlin" or "UTC"`)
	}
	if !calendar {
		fail("time_zone", zone, `is for the windows "day" and "month" alone`)
	}
}

func checkKey(key []string, fail Fail) {
	if n := len(key); n > MaxParts {
		fail("key", "", "has %d entries; %d are allowed", n, MaxParts)
	}
	for i, text := range key {
		field := fmt.Sprintf("key[%d]", i)
		if text == globalKey {
			if len(key) > 1 {
				fail(field, text, "stands alone: all requests share one count, or what else is named tells them apart")
			}
			continue
		}
		p, why := parsePart(text)
		if why == "" && p.Kind == Header && p.Name == "host" {
			why = `is not told apart by: give routes with hosts limits of their own, or "route"`
		}
		if why != "" {
			fail(field, text, "%s", why)
			continue
		}
		for _, before := range key[:i] {
			if q, why := parsePart(before); why == "" && q.Kind == p.Kind && q.Name == p.Name {
				fail(field, text, "is there twice")
				break
			}
		}
	}
}

func checkStore(m *configv1.RateLimit, algorithm Algorithm, fail Fail) {
	oneOf(fail, "store", m.GetStore(), []string{"local", "redis"})
	oneOf(fail, "mode", m.GetMode(), []string{"strict", "leased"})
	oneOf(fail, "on_error", m.GetOnError(), onErrors)
	if t := m.GetTimeout(); t != "" {
		duration(fail, "timeout", t, minTimeout, maxTimeout)
	}
	redis := m.GetStore() == "redis"
	if redis && algorithm == Concurrency {
		fail("store", "redis", "can't be of concurrency: each node counts what is under way on it")
	}
	for _, f := range []struct{ field, value string }{
		{"mode", m.GetMode()}, {"on_error", m.GetOnError()}, {"timeout", m.GetTimeout()},
	} {
		if f.value != "" && !redis {
			fail(f.field, f.value, `is for store "redis" alone`)
		}
	}
}

func oneOf(fail Fail, field, value string, valid []string) {
	if value != "" && !slices.Contains(valid, value) {
		fail(field, value, "has to be one of %s", strings.Join(valid, ", "))
	}
}

func duration(fail Fail, field, value string, low, high time.Duration) {
	d, err := time.ParseDuration(value)
	switch {
	case err != nil:
		fail(field, value, `is no duration such as "250ms", "30s" or "24h"`)
	case d < low || d > high:
		fail(field, value, "has to be from %s to %s", short(low), short(high))
	}
}

func short(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}
