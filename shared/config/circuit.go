package config

import (
	"strconv"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// The types of circuits.
const (
	WindowCircuit  = "window"
	HystrixCircuit = "hystrix"
)

// The defaults of absent fields of a circuit.
const (
	DefaultCircuitRequests  = 1
	DefaultCircuitInterval  = 10 * time.Second
	DefaultCircuitTimeout   = 30 * time.Second
	DefaultCircuitThreshold = 0.5
	DefaultCircuitMinimum   = 20
	// circuitGrowth is how many times the timeout an open circuit's time may be where max_timeout does not say.
	circuitGrowth = 4
)

const (
	maxCircuitCount   = 1_000_000
	maxCircuitProbes  = 10_000
	maxCircuitTimeout = 24 * time.Hour
)

// Circuit is a service's circuit with its defaults filled in. It is comparable.
type Circuit struct {
	// Type is WindowCircuit or HystrixCircuit.
	Type string
	// Probes is how many requests a circuit that is half open lets through.
	Probes int
	// Interval is how long results count, Timeout and MaxTimeout how long the circuit is open, at first and at most.
	Interval, Timeout, MaxTimeout time.Duration
	// Threshold is the share of failures that opens it, above 0 to 1, of at least Minimum results.
	Threshold float64
	Minimum   int
	// Consecutive is how many failures in a row open it; 0: any number.
	Consecutive int
	// Slow is from when on a response is slow; 0: none is. SlowThreshold is the share of them that opens it.
	Slow          time.Duration
	SlowThreshold float64
	// Concurrent is how many requests may be under way, 0: any number, and Pending how many may wait.
	Concurrent, Pending int
	// Adaptive is how many requests may be under way where that follows the service. The zero value has no limit.
	Adaptive Adaptive
	// Shared reports whether nodes tell each other of its openings.
	Shared bool
}

// circuitOf reads a valid circuit; nil: none.
func circuitOf(m *configv1.CircuitBreakerConfig) *Circuit {
	if m == nil {
		return nil
	}
	c := &Circuit{
		Type:        orString(m.GetType(), WindowCircuit),
		Probes:      numberOr(m.GetMaxRequests(), DefaultCircuitRequests),
		Interval:    durationOr(m.GetInterval(), DefaultCircuitInterval),
		Timeout:     durationOr(m.GetTimeout(), DefaultCircuitTimeout),
		Threshold:   DefaultCircuitThreshold,
		Minimum:     numberOr(m.GetMinRequests(), DefaultCircuitMinimum),
		Consecutive: int(m.GetConsecutiveFailures()),
		Concurrent:  int(m.GetMaxConcurrent()), Pending: int(m.GetMaxPending()),
		Adaptive: adaptiveOf(m.GetAdaptive()),
		Shared:   m.GetShared(),
	}
	c.MaxTimeout = durationOr(m.GetMaxTimeout(), min(circuitGrowth*c.Timeout, maxCircuitTimeout))
	if m.ErrorThreshold != nil {
		c.Threshold = m.GetErrorThreshold()
	}
	if s := m.GetSlowCall(); s != nil {
		c.Slow, c.SlowThreshold = durationOr(s.GetDuration(), 0), 1
		if s.Ratio != nil {
			c.SlowThreshold = s.GetRatio()
		}
	}
	return c
}

// circuit checks a service's circuit; nil: there is none.
func (c *checker) circuit(m *configv1.CircuitBreakerConfig) {
	if m == nil {
		return
	}
	const at = "circuit_breaker_config."
	c.oneOf(at+"type", m.GetType(), WindowCircuit, HystrixCircuit)
	c.number(at+"max_requests", m.GetMaxRequests(), 0, maxCircuitProbes)
	c.number(at+"min_requests", m.GetMinRequests(), 0, maxCircuitCount)
	c.number(at+"consecutive_failures", m.GetConsecutiveFailures(), 0, maxCircuitCount)
	c.number(at+"max_concurrent", m.GetMaxConcurrent(), 0, maxCircuitCount)
	c.number(at+"max_pending", m.GetMaxPending(), 0, maxCircuitCount)
	c.duration(at+"interval", m.GetInterval(), time.Second, time.Hour)
	timeout, ok := c.duration(at+"timeout", m.GetTimeout(), 100*time.Millisecond, time.Hour)
	if !ok {
		timeout = DefaultCircuitTimeout
	}
	c.duration(at+"max_timeout", m.GetMaxTimeout(), timeout, maxCircuitTimeout)
	c.share(at+"error_threshold", m.ErrorThreshold)
	if s := m.GetSlowCall(); s != nil {
		if s.GetDuration() == "" {
			c.fail(at+"slow_call.duration", "", `is required: the time from which on a response is slow, such as "2s"`)
		}
		c.duration(at+"slow_call.duration", s.GetDuration(), time.Millisecond, time.Hour)
		c.share(at+"slow_call.ratio", s.Ratio)
	}
	if m.GetMaxPending() > 0 && m.GetMaxConcurrent() == 0 && m.GetAdaptive() == nil {
		c.fail(at+"max_pending", strconv.Itoa(int(m.GetMaxPending())), "has no meaning without max_concurrent or adaptive")
	}
	if m.GetMaxConcurrent() > 0 && m.GetAdaptive() != nil {
		c.fail(at+"max_concurrent", strconv.Itoa(int(m.GetMaxConcurrent())),
			"has no meaning with adaptive, whose max_limit is the most that there may be")
	}
	c.adaptive(at+"adaptive.", m.GetAdaptive())
	c.circuitType(m)
}

// circuitType checks that a circuit has no field that is for the other type.
func (c *checker) circuitType(m *configv1.CircuitBreakerConfig) {
	const at = "circuit_breaker_config."
	numbers := []struct {
		name, of string
		n        uint32
	}{
		{"consecutive_failures", WindowCircuit, m.GetConsecutiveFailures()},
		{"max_concurrent", HystrixCircuit, m.GetMaxConcurrent()},
		{"max_pending", HystrixCircuit, m.GetMaxPending()},
	}
	is := orString(m.GetType(), WindowCircuit)
	for _, f := range numbers {
		if f.n > 0 && f.of != is {
			c.fail(at+f.name, strconv.Itoa(int(f.n)), "is for the type %q; this circuit's is %q", f.of, is)
		}
	}
	if m.GetSlowCall() != nil && is != WindowCircuit {
		c.fail(at+"slow_call", "", "is for the type %q; this circuit's is %q", WindowCircuit, is)
	}
}

// share checks a number that is a part of a whole; nil: it is absent.
func (c *checker) share(field string, v *float64) {
	if v != nil && (!(*v > 0) || *v > 1) { // not a number is not above 0
		c.fail(field, strconv.FormatFloat(*v, 'g', -1, 64), "has to be above 0 and up to 1, such as 0.5 for half of them")
	}
}
