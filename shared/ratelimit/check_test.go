package ratelimit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func parse(t testing.TB, text string) *configv1.RateLimit {
	t.Helper()
	m := &configv1.RateLimit{}
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ limit, field string }{
		{`{"name": "a", "limit": 1}`, ""},
		{`{"limit": 10, "window": "1s", "burst": 20, "key": ["service", "client_ip/24/56", "header:X-A", "claim:sub"]}`, ""},
		{`{"limit": 10, "key": ["client_ip/64"]}`, ""},
		{`{"limit": 10, "key": ["global"]}`, ""},
		{`{"limit": 10, "algorithm": "fixed_window", "window": "month", "time_zone": "Europe/Berlin"}`, ""},
		{`{"limit": 10, "store": "redis", "mode": "leased", "on_error": "deny", "timeout": "20ms"}`, ""},
		{`{"limit": 10, "algorithm": "concurrency"}`, ""},
		{`{}`, "limit"},
		{`{"name": "A", "limit": 1}`, "name"},
		{`{"limit": 1000000001}`, "limit"},
		{`{"limit": 8000001, "algorithm": "sliding_window"}`, "limit"},
		{`{"limit": 1, "algorithm": "leaky_bucket"}`, "algorithm"},
		{`{"limit": 1, "window": "99ms"}`, "window"},
		{`{"limit": 1, "window": "1d"}`, "window"},
		{`{"limit": 1, "window": "day"}`, "window"},
		{`{"limit": 1, "window": "1s", "algorithm": "concurrency"}`, "window"},
		{`{"limit": 1, "burst": 1, "algorithm": "fixed_window"}`, "burst"},
		{`{"limit": 1, "window": "1h", "burst": 100000}`, "burst"},
		{`{"limit": 5, "cost": 6}`, "cost"},
		{`{"limit": 5, "burst": 6, "cost": 6}`, ""},
		{`{"limit": 5, "cost_header": "a b"}`, "cost_header"},
		{`{"limit": 5, "time_zone": "UTC"}`, "time_zone"},
		{`{"limit": 5, "algorithm": "fixed_window", "window": "day", "time_zone": "Mars/Utopia"}`, "time_zone"},
		{`{"limit": 5, "algorithm": "fixed_window", "window": "day", "time_zone": "Local"}`, "time_zone"},
		{`{"limit": 5, "key": ["user"]}`, "key[0]"},
		{`{"limit": 5, "key": ["service", "global"]}`, "key[1]"},
		{`{"limit": 5, "key": ["client_ip/33/65/1"]}`, "key[0]"},
		{`{"limit": 5, "key": ["client_ip/7"]}`, "key[0]"},
		{`{"limit": 5, "key": ["client_ip/024"]}`, "key[0]"},
		{`{"limit": 5, "key": ["header:Host"]}`, "key[0]"},
		{`{"limit": 5, "key": ["header:X-A", "header:x-a"]}`, "key[1]"},
		{`{"limit": 5, "key": ["claim:"]}`, "key[0]"},
		{`{"limit": 5, "store": "memcached"}`, "store"},
		{`{"limit": 5, "store": "redis", "algorithm": "concurrency"}`, "store"},
		{`{"limit": 5, "mode": "leased"}`, "mode"},
		{`{"limit": 5, "store": "redis", "timeout": "11s"}`, "timeout"},
	} {
		var errs []string
		Check(parse(t, c.limit), func(field, value, format string, args ...any) {
			errs = append(errs, fmt.Sprintf("%s %q %s", field, value, fmt.Sprintf(format, args...)))
		})
		switch {
		case c.field == "" && len(errs) > 0:
			t.Errorf("%s: %q", c.limit, errs)
		case c.field != "" && (len(errs) != 1 || !strings.HasPrefix(errs[0], c.field+" ")):
			t.Errorf("%s: %q, want one of %s", c.limit, errs, c.field)
		}
	}
}

func TestNamesOfAPolicysLimits(t *testing.T) {
	var errs []string
	CheckAll("rate_limits", []*configv1.RateLimit{
		parse(t, `{"name": "a", "limit": 1}`), parse(t, `{"limit": 1}`), parse(t, `{"name": "a", "limit": 1}`),
	}, func(field, _, _ string, _ ...any) { errs = append(errs, field) })
	if got := fmt.Sprint(errs); got != "[rate_limits[1].name rate_limits[2].name]" {
		t.Error(got)
	}
}

// TestPeriods has days that are longer or shorter, or begin late, by their zone's clock.
func TestPeriods(t *testing.T) {
	for _, c := range []struct{ zone, window, at, from, until string }{
		{"UTC", "day", "2026-03-01T12:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"},
		{"Europe/Berlin", "day", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"Europe/Berlin", "day", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"America/Havana", "day", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"}, // begins at 1:00
		{"America/Havana", "day", "2026-03-08T04:59:59Z", "2026-03-07T05:00:00Z", "2026-03-08T05:00:00Z"},
		{"UTC", "month", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"Asia/Kathmandu", "month", "2026-02-28T18:15:00Z", "2026-02-28T18:15:00Z", "2026-03-31T18:15:00Z"},
	} {
		s := Of(parse(t, `{"limit": 1, "algorithm": "fixed_window", "window": "`+c.window+`", "time_zone": "`+c.zone+`"}`))
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		from, until := s.Period(at)
		if f, u := from.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339); f != c.from || u != c.until {
			t.Errorf("%s in %s: from %s until %s", c.at, c.zone, f, u)
		}
	}
}

// FuzzCheck reads any key, window and zone: what is valid has settings that make sense.
func FuzzCheck(f *testing.F) {
	for _, k := range []string{"client_ip/24/56", "client_ip/64", "header:X", "claim:sub", "global", "client_ip/"} {
		f.Add(k, "1s", "", uint32(10), uint32(0))
	}
	f.Add("", "day", "Europe/Berlin", uint32(1), uint32(3))
	f.Fuzz(func(t *testing.T, key, window, zone string, limit, burst uint32) {
		m := &configv1.RateLimit{Key: []string{key}, Window: window, TimeZone: zone, Limit: limit, Burst: burst}
		if window == "day" || window == "month" {
			m.Algorithm = "fixed_window"
		}
		valid := true
		Check(m, func(string, string, string, ...any) { valid = false })
		if !valid {
			return
		}
		s := Of(m)
		from, until := s.Period(time.Unix(1_800_000_000, 0))
		if s.Limit < 1 || s.Burst < 1 || s.Lease() < 1 || !from.Before(until) || len(s.Key) > 1 ||
			s.Calendar == NoCalendar && s.Window < minWindow || s.Increment(s.Burst) < 1 {
			t.Errorf("%v is %+v", m, s)
		}
		for _, p := range s.Key {
			if p.Kind == ClientIP && (p.Bits4 < 8 || p.Bits4 > 32 || p.Bits6 < 16 || p.Bits6 > 128) {
				t.Errorf("%q is %+v", key, p)
			}
		}
	})
}
