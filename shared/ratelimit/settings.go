// Package ratelimit reads rate limits: what is valid, and what a valid one says with its defaults filled in. It counts
// nothing.
package ratelimit

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // nodes and control planes know the same zones

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// The most that fields may say.
const (
	MaxLimit   = 1_000_000_000
	MaxSliding = 8_000_000
	MaxCost    = 1_000_000
	MaxParts   = 8
	// MaxLimits is how many limits a policy may have.
	MaxLimits = 16
)

// The ranges and defaults of durations.
const (
	minWindow      = 100 * time.Millisecond
	maxWindow      = 744 * time.Hour
	minTimeout     = time.Millisecond
	maxTimeout     = 10 * time.Second
	defaultWindow  = time.Second
	DefaultTimeout = 50 * time.Millisecond
)

// Algorithm is how requests are counted. The zero value is TokenBucket.
type Algorithm uint8

// The algorithms.
const (
	TokenBucket Algorithm = iota
	SlidingWindow
	FixedWindow
	Concurrency
)

var algorithms = []string{"token_bucket", "sliding_window", "fixed_window", "concurrency"}

// String returns the name, as configurations have it.
func (a Algorithm) String() string { return algorithms[a] }

// Calendar is a window by the calendar. The zero value is none.
type Calendar uint8

// The calendars.
const (
	NoCalendar Calendar = iota
	Day
	Month
)

var calendars = []string{"", "day", "month"}

// OnError is what becomes of requests that the store can't be asked about. The zero value is OnErrorLocal.
type OnError uint8

// The choices.
const (
	OnErrorLocal OnError = iota
	OnErrorAllow
	OnErrorDeny
)

var onErrors = []string{"local", "allow", "deny"}

// PartKind is a part of what is counted apart.
type PartKind uint8

// The kinds.
const (
	Service PartKind = iota
	Route
	Consumer
	ClientIP
	Header
	Claim
)

// Part is one thing that requests are counted apart by.
type Part struct {
	Kind PartKind
	// Name is the field's or the claim's.
	Name string
	// Bits4 and Bits6 are the lengths of prefixes of ClientIP.
	Bits4, Bits6 int
	// Text is the part as configurations have it.
	Text string
}

// Settings are a limit with its defaults filled in. They are comparable but for Key.
type Settings struct {
	Name      string
	Algorithm Algorithm
	// Limit and Burst are above 0.
	Limit, Burst int64
	// Window is 0 where Calendar is set, and of Concurrency.
	Window   time.Duration
	Calendar Calendar
	Zone     *time.Location
	// Key is empty where all requests share a count.
	Key []Part
	// Redis tells that all nodes count together, and Leased that they take shares ahead.
	Redis, Leased bool
	OnError       OnError
	// Timeout is the longest wait for Redis.
	Timeout time.Duration
	// Cost is what a request takes where CostHeader, which may be empty, does not say.
	Cost       int64
	CostHeader string
	DryRun     bool
	// Headers tells that responses say what is left.
	Headers bool
}

// Of reads a limit that was validated.
func Of(m *configv1.RateLimit) Settings {
	s := Settings{
		Name: m.GetName(), Limit: int64(m.GetLimit()), Burst: int64(m.GetBurst()), Cost: max(int64(m.GetCost()), 1),
		CostHeader: m.GetCostHeader(), DryRun: m.GetDryRun(), Headers: m.Headers == nil || m.GetHeaders(),
		Redis: m.GetStore() == "redis", Leased: m.GetMode() == "leased", Zone: time.UTC, Timeout: DefaultTimeout,
	}
	s.Algorithm = Algorithm(max(slices.Index(algorithms, m.GetAlgorithm()), 0))
	s.OnError = OnError(max(slices.Index(onErrors, m.GetOnError()), 0))
	if s.Burst == 0 {
		s.Burst = s.Limit
	}
	switch c := slices.Index(calendars[1:], m.GetWindow()); {
	case c >= 0:
		s.Calendar = Calendar(c + 1)
		if z, err := time.LoadLocation(m.GetTimeZone()); err == nil {
			s.Zone = z
		}
	case s.Algorithm != Concurrency:
		s.Window = durationOr(m.GetWindow(), defaultWindow)
	}
	s.Timeout = durationOr(m.GetTimeout(), DefaultTimeout)
	for _, text := range m.GetKey() {
		if p, why := parsePart(text); why == "" && text != globalKey {
			s.Key = append(s.Key, p)
		}
	}
	return s
}

func durationOr(s string, absent time.Duration) time.Duration {
	if d, err := time.ParseDuration(s); err == nil {
		return d
	}
	return absent
}

// globalKey is the key of limits that all requests share.
const globalKey = "global"

var parts = []string{"service", "route", "consumer", "client_ip"}

// parsePart reads a part of a key. why says what is wrong with it; empty: nothing.
func parsePart(text string) (p Part, why string) {
	p = Part{Text: text, Bits4: 32, Bits6: 64}
	if i := slices.Index(parts, text); i >= 0 {
		p.Kind = PartKind(i)
		return p, ""
	}
	if name, is := strings.CutPrefix(text, "header:"); is {
		p.Kind, p.Name = Header, strings.ToLower(name)
		if !isToken(name) {
			return p, `has to name a header field, such as "header:X-Tenant"`
		}
		return p, ""
	}
	if name, is := strings.CutPrefix(text, "claim:"); is {
		p.Kind, p.Name = Claim, name
		if name == "" || len(name) > 64 {
			return p, `has to name a claim of 1 to 64 bytes, such as "claim:sub"`
		}
		return p, ""
	}
	lengths, is := strings.CutPrefix(text, "client_ip/")
	if !is {
		return p, "has to be one of global, service, route, consumer, client_ip, header:NAME and claim:NAME"
	}
	p.Kind = ClientIP
	const wrong = `has lengths of prefixes, such as "client_ip/24" for IPv4 (8 to 32), "client_ip/56" for IPv6 ` +
		`(33 to 128) or "client_ip/24/48" for both`
	four, six, both := strings.Cut(lengths, "/")
	n, ok := bits(four)
	switch {
	case !ok:
		return p, wrong
	case !both && n > 32:
		p.Bits6 = n
		return p, ""
	case n < 8 || n > 32:
		return p, wrong
	}
	p.Bits4 = n
	if both {
		if n, ok = bits(six); !ok || n < 16 || n > 128 {
			return p, wrong
		}
		p.Bits6 = n
	}
	return p, ""
}

func bits(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	return int(n), err == nil && strconv.FormatUint(n, 10) == s && n <= 128
}

// isToken reports whether s can be the name of a field (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Lease returns how much a node takes ahead at a time.
func (s *Settings) Lease() int64 {
	n := s.Limit
	if s.Algorithm == TokenBucket {
		n = min(n, s.Burst)
	}
	return max(n/100, 1)
}

// Increment returns the time, in nanoseconds, after which a token bucket has as much again as cost, which is not above
// MaxLimit; at most MaxInt64/4. It is rounded down, so that those of several costs together are not above that of their
// sum.
func (s *Settings) Increment(cost int64) int64 {
	if cost == 0 {
		return 0
	}
	f := float64(s.Window) * float64(cost) / float64(s.Limit)
	if f > math.MaxInt64/4 {
		return math.MaxInt64 / 4
	}
	return max(int64(f), 1)
}

// Period returns when the window that a time is in has begun, and when the next one begins; of FixedWindow and
// SlidingWindow.
func (s *Settings) Period(at time.Time) (from, until time.Time) {
	switch s.Calendar {
	case Day:
		y, m, d := at.In(s.Zone).Date()
		return midnight(y, m, d, s.Zone), midnight(y, m, d+1, s.Zone)
	case Month:
		y, m, _ := at.In(s.Zone).Date()
		return midnight(y, m, 1, s.Zone), midnight(y, m+1, 1, s.Zone)
	}
	n := at.UnixNano() / int64(s.Window)
	return time.Unix(0, n*int64(s.Window)), time.Unix(0, (n+1)*int64(s.Window))
}

// midnight returns the first moment of a day. Where the clock skips midnight, that is when it does so.
func midnight(y int, m time.Month, d int, z *time.Location) time.Time {
	at, noon := time.Date(y, m, d, 0, 0, 0, 0, z), time.Date(y, m, d, 12, 0, 0, 0, z)
	start, end := at.ZoneBounds()
	switch { // Date gives a time that is right in one of the two zones of a transition
	case at.Day() != noon.Day() && !end.IsZero():
		return end
	case at.Hour() != 0 && !start.IsZero():
		return start
	}
	return at
}
