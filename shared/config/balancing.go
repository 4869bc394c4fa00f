package config

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// The defaults and limits of load_balancer_config.
const (
	DefaultTableSize        = 65537
	DefaultOverprovisioning = 140
	DefaultMinWeightPercent = 10
	DefaultDecayTime        = 10 * time.Second

	minTableSize = 101
	maxTableSize = 262_147
	maxPriority  = 127
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
	// Name is that of the header field or the parameter.
	Name string
	// Cookie is the cookie, where it is one.
	Cookie Cookie
}

// HashSource is a place of a request that a key may be in.
type HashSource uint8

// The places.
const (
	HashClientIP HashSource = iota
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
		TableSize: numberOr(m.GetTableSize(), DefaultTableSize), BalanceFactor: int(m.GetHashBalanceFactor()),
		ZoneLabel: m.GetZoneLabel(), PriorityLabel: m.GetPriorityLabel(),
		Overprovisioning: numberOr(m.GetOverprovisioningFactor(), DefaultOverprovisioning),
		PanicThreshold:   int(m.GetPanicThreshold()),
		DecayTime:        durationOr(m.GetDecayTime(), DefaultDecayTime),
	}
	if slow := m.GetSlowStart(); slow != nil {
		b.SlowStart, b.Aggression = durationOr(slow.GetWindow(), 0), slow.GetAggression()
		if b.Aggression == 0 {
			b.Aggression = 1
		}
		b.MinWeightPercent = numberOr(slow.GetMinWeightPercent(), DefaultMinWeightPercent)
	}
	return b
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
		return HashKey{Source: HashCookie, Cookie: CookieOf(from.Cookie)}
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
		c.fail(at, "", "says nothing; there are header, cookie, client_ip, path_parameter and consumer")
	case *configv1.HashKey_Header:
		if !token.MatchString(from.Header) {
			c.fail(at+".header", from.Header, "has to be the name of a header field, up to 128 characters of a token")
		}
	case *configv1.HashKey_PathParameter:
		if from.PathParameter == "" || len(from.PathParameter) > maxNameLength {
			c.fail(at+".path_parameter", from.PathParameter,
				`has to be the name of a parameter of the route's path, such as "id" of /users/{id}`)
		}
	case *configv1.HashKey_ClientIp:
		c.hasToBeTrue(at+".client_ip", from.ClientIp)
	case *configv1.HashKey_Consumer:
		c.hasToBeTrue(at+".consumer", from.Consumer)
	case *configv1.HashKey_Cookie:
		c.clientCookie(at+".cookie", from.Cookie)
	}
}

func (c *checker) hasToBeTrue(field string, value bool) {
	if !value {
		c.fail(field, "false", "has to be true; there are header, cookie, path_parameter and others besides")
	}
}
