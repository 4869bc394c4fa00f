package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// The defaults and limits of load_balancer_config.
const (
	DefaultTableSize        = 65537
	DefaultOverprovisioning = 140
	DefaultMinWeightPercent = 10
	DefaultDecayTime        = 10 * time.Second

	minTableSize        = 101
	maxTableSize        = 262_147
	maxPriority         = 127
	maxCookieAttributes = 8
)

// Balancing is how a service's requests are shared among its endpoints, with its defaults filled in. It is
// comparable.
type Balancing struct {
	// Type is a load_balancer_type.
	Type string
	// Key is for "consistent_hash".
	Key HashKey
	// TableSize is for "consistent_hash", and BalanceFactor, in percent; 0: no bound.
	TableSize, BalanceFactor int
	// ZoneLabel and PriorityLabel are labels of endpoints; empty: zones, or tiers, don't count.
	ZoneLabel, PriorityLabel string
	// Overprovisioning and PanicThreshold are percentages.
	Overprovisioning, PanicThreshold int
	// SlowStart is the time in which an endpoint gets its share; 0: at once.
	SlowStart time.Duration
	// Aggression is above 0, MinWeightPercent 1 to 100.
	Aggression       float64
	MinWeightPercent int
	// DecayTime is for "peak_ewma".
	DecayTime time.Duration
}

// HashKey says what requests are told apart by. It is comparable.
type HashKey struct {
	// Source is where it is.
	Source HashSource
	// Name is that of the header field, the cookie or the parameter.
	Name string
	// SetCookie is what follows the value in the field Set-Cookie.
	SetCookie string
}

// HashSource is a place of a request that a key may be in.
type HashSource uint8

// The places.
const (
	HashClientAddress HashSource = iota
	HashHeader
	HashCookie
	HashPathParameter
	HashConsumer
)

// Priority returns the tier that an endpoint is in.
func (b *Balancing) Priority(e *configv1.Endpoint) int {
	if b.PriorityLabel == "" {
		return 0
	}
	n, ok := priority(e.GetLabels()[b.PriorityLabel])
	if !ok {
		return 0
	}
	return n
}

func priority(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n <= maxPriority
}

// balancingOf reads a valid service's settings.
func balancingOf(s *configv1.Service) Balancing {
	m := s.GetLoadBalancerConfig()
	b := Balancing{
		Type: orString(s.GetLoadBalancerType(), "round_robin"), Key: hashKeyOf(m.GetHashKey()),
		TableSize: orNumber(m.GetTableSize(), DefaultTableSize), BalanceFactor: int(m.GetHashBalanceFactor()),
		ZoneLabel: m.GetZoneLabel(), PriorityLabel: m.GetPriorityLabel(),
		Overprovisioning: orNumber(m.GetOverprovisioningFactor(), DefaultOverprovisioning),
		PanicThreshold:   int(m.GetPanicThreshold()),
		DecayTime:        durationOr(m.GetDecayTime(), DefaultDecayTime),
	}
	if slow := m.GetSlowStart(); slow != nil {
		b.SlowStart, b.Aggression = durationOr(slow.GetWindow(), 0), slow.GetAggression()
		if b.Aggression == 0 {
			b.Aggression = 1
		}
		b.MinWeightPercent = orNumber(slow.GetMinWeightPercent(), DefaultMinWeightPercent)
	}
	return b
}

func orNumber(n uint32, absent int) int {
	if n == 0 {
		return absent
	}
	return int(n)
}

func hashKeyOf(m *configv1.HashKey) HashKey {
	switch from := m.GetSource().(type) {
	case *configv1.HashKey_Header:
		return HashKey{Source: HashHeader, Name: from.Header}
	case *configv1.HashKey_PathParameter:
		return HashKey{Source: HashPathParameter, Name: from.PathParameter}
	case *configv1.HashKey_Consumer:
		return HashKey{Source: HashConsumer}
	case *configv1.HashKey_Cookie:
		cookie := from.Cookie
		set := "; Path=" + orString(cookie.GetPath(), "/")
		if ttl := durationOr(cookie.GetTtl(), 0); ttl > 0 {
			set += "; Max-Age=" + strconv.Itoa(int(ttl/time.Second))
		}
		for _, attribute := range cookie.GetAttributes() {
			set += "; " + attribute
		}
		return HashKey{Source: HashCookie, Name: cookie.GetName(), SetCookie: set + "; HttpOnly"}
	}
	return HashKey{}
}

func (c *checker) balancing(s *configv1.Service) {
	kind := orString(s.GetLoadBalancerType(), "round_robin")
	c.oneOf("load_balancer_type", kind, "round_robin", "weighted_round_robin", "least_connections", "random",
		"consistent_hash", "peak_ewma")
	m := s.GetLoadBalancerConfig()
	if m == nil {
		return
	}
	const at = "load_balancer_config."
	only := func(field, value string, given bool, of string) {
		if given && kind != of {
			c.fail(at+field, value, "is for load_balancer_type %q; this service's is %q", of, kind)
		}
	}
	only("hash_key", "", m.GetHashKey() != nil, "consistent_hash")
	only("table_size", fmt.Sprint(m.GetTableSize()), m.GetTableSize() != 0, "consistent_hash")
	only("hash_balance_factor", fmt.Sprint(m.GetHashBalanceFactor()), m.GetHashBalanceFactor() != 0, "consistent_hash")
	only("decay_time", m.GetDecayTime(), m.GetDecayTime() != "", "peak_ewma")
	orZero := func(field string, n, low, high uint32) {
		if n != 0 {
			c.number(at+field, n, low, high)
		}
	}
	orZero("table_size", m.GetTableSize(), minTableSize, maxTableSize)
	orZero("hash_balance_factor", m.GetHashBalanceFactor(), 101, 10_000)
	orZero("overprovisioning_factor", m.GetOverprovisioningFactor(), 100, 1000)
	c.number(at+"panic_threshold", m.GetPanicThreshold(), 0, 100)
	c.duration(at+"decay_time", m.GetDecayTime(), 100*time.Millisecond, time.Hour)
	for _, label := range []struct{ field, value string }{
		{"zone_label", m.GetZoneLabel()}, {"priority_label", m.GetPriorityLabel()},
	} {
		if n := len(label.value); n > maxLabelLength {
			c.fail(at+label.field, label.value, "has %d bytes; labels have up to %d", n, maxLabelLength)
		}
	}
	if label := m.GetPriorityLabel(); label != "" {
		for i, e := range s.GetEndpoints() {
			value, has := e.GetLabels()[label]
			if _, ok := priority(value); has && !ok {
				c.fail(fmt.Sprintf("endpoints[%d].labels.%s", i, label), value,
					"is the endpoint's priority by load_balancer_config.priority_label, and has to be a number from 0 to %d",
					maxPriority)
			}
		}
	}
	if k := m.GetHashKey(); k != nil {
		c.hashKey(at+"hash_key", k)
	}
	if slow := m.GetSlowStart(); slow != nil {
		c.slowStart(at+"slow_start", slow, kind)
	}
}

func (c *checker) slowStart(at string, m *configv1.SlowStart, kind string) {
	if kind == "consistent_hash" {
		c.fail(at, "", `is not for load_balancer_type "consistent_hash": its keys do not move with time`)
	}
	if m.GetWindow() == "" {
		c.fail(at+".window", "", `is required: how long it takes, such as "30s"`)
	}
	c.duration(at+".window", m.GetWindow(), time.Second, time.Hour)
	if a := m.GetAggression(); a != 0 && !(a >= 0.1 && a <= 10) {
		c.fail(at+".aggression", strconv.FormatFloat(a, 'g', -1, 64), "has to be from 0.1 to 10")
	}
	c.number(at+".min_weight_percent", m.GetMinWeightPercent(), 0, 100)
}

// token is the grammar of names in RFC 9110 section 5.6.2, up to the length that names of this kind may have.
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")

func (c *checker) hashKey(at string, k *configv1.HashKey) {
	switch from := k.GetSource().(type) {
	case nil:
		c.fail(at, "", "says nothing; there are header, cookie, client_address, path_parameter and consumer")
	case *configv1.HashKey_Header:
		if !token.MatchString(from.Header) {
			c.fail(at+".header", from.Header, "has to be the name of a header field, up to 128 characters of a token")
		}
	case *configv1.HashKey_PathParameter:
		if from.PathParameter == "" || len(from.PathParameter) > maxNameLength {
			c.fail(at+".path_parameter", from.PathParameter,
				`has to be the name of a parameter of the route's path, such as "id" of /users/{id}`)
		}
	case *configv1.HashKey_ClientAddress:
		c.hasToBeTrue(at+".client_address", from.ClientAddress)
	case *configv1.HashKey_Consumer:
		c.hasToBeTrue(at+".consumer", from.Consumer)
	case *configv1.HashKey_Cookie:
		c.hashCookie(at+".cookie", from.Cookie)
	}
}

func (c *checker) hasToBeTrue(field string, value bool) {
	if !value {
		c.fail(field, "false", "has to be true; there are header, cookie, path_parameter and others besides")
	}
}

func (c *checker) hashCookie(at string, m *configv1.HashCookie) {
	if !token.MatchString(m.GetName()) {
		c.fail(at+".name", m.GetName(), "has to be the name of a cookie, 1 to 128 characters of a token")
	}
	c.duration(at+".ttl", m.GetTtl(), time.Second, 8760*time.Hour)
	if p := m.GetPath(); p != "" && (p[0] != '/' || len(p) > maxLabelLength || !cookieValue(p)) {
		c.fail(at+".path", p, `has to start with "/", up to %d visible ASCII characters without ";"`, maxLabelLength)
	}
	if n := len(m.GetAttributes()); n > maxCookieAttributes {
		c.fail(at+".attributes", "", "has %d entries; %d are allowed", n, maxCookieAttributes)
	}
	secure, domain, needsSecure := false, false, hasCookiePrefix(m.GetName(), "__Host-", "__Secure-")
	for i, attribute := range m.GetAttributes() {
		field := fmt.Sprintf("%s.attributes[%d]", at, i)
		name, value, _ := strings.Cut(attribute, "=")
		switch strings.ToLower(name) {
		case "path", "max-age", "expires", "httponly":
			c.fail(field, attribute, "is not to be given here: path and ttl say it, and HttpOnly is always there")
		case "secure":
			secure = true
		case "domain":
			domain = true
		case "samesite":
			needsSecure = needsSecure || strings.EqualFold(value, "none")
		}
		if !token.MatchString(name) || len(attribute) > maxLabelLength || !cookieValue(value) {
			c.fail(field, attribute, `has to be a name such as "Secure", or a name and a value such as "SameSite=Lax"`)
		}
	}
	if needsSecure && !secure {
		c.fail(at+".attributes", "",
			"has to have \"Secure\": clients refuse cookies with SameSite=None, and those whose names begin with __Host- "+
				"or __Secure-, without it")
	}
	c.hostCookie(at, m.GetName(), m.GetPath(), domain)
}

// hasCookiePrefix reports whether a cookie's name begins with a prefix of those that clients look at, in any case (RFC
// 6265bis section 5.7).
func hasCookiePrefix(name string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool {
		return len(name) >= len(p) && strings.EqualFold(name[:len(p)], p)
	})
}

// hostCookie checks what clients ask of cookies whose names begin with __Host-: they refuse others.
func (c *checker) hostCookie(at, name, path string, domain bool) {
	if hasCookiePrefix(name, "__Host-") && (domain || path != "" && path != "/") {
		c.fail(at+".name", name, "is for a cookie with the path \"/\" and no domain: clients refuse others of this name")
	}
}

// cookieValue reports whether a text may be the value of a cookie's attribute (RFC 6265 section 4.1.1).
func cookieValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' })
}
