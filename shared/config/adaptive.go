package config

import (
	"strconv"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// The defaults of absent fields of an adaptive limit. They are those of Envoy's gradient controller.
const (
	DefaultAdaptiveMinLimit   = 3
	DefaultAdaptiveMaxLimit   = 1000
	DefaultAdaptiveWindow     = 100 * time.Millisecond
	DefaultAdaptivePercentile = 50
	DefaultAdaptiveBuffer     = 0.25
	DefaultMinRTTInterval     = time.Minute
	DefaultMinRTTJitter       = 0.15
	DefaultMinRTTRequests     = 50
	DefaultMinConcurrency     = 3
)

const (
	maxAdaptiveBuffer = 10
	maxMinRTTRequests = 10_000
	maxMinRTTInterval = 24 * time.Hour
	// windowsOfMinRTT is how many windows there are at least between two measurements.
	windowsOfMinRTT = 10
)

// Adaptive is a limit of requests under way that follows how long responses take, with its defaults filled in. The zero
// value is none.
type Adaptive struct {
	// MinLimit and MaxLimit are what the limit is at least and at most.
	MinLimit, MaxLimit int
	// Window is how often it changes.
	Window time.Duration
	// Percentile is the share of responses, above 0 and below 1, that came within the time that is compared.
	Percentile float64
	// Buffer is the share of the time without load that is allowed for before the limit falls.
	Buffer float64
	// Interval is how often the time without load is measured, and Jitter the share of it by which that is later.
	Interval time.Duration
	Jitter   float64
	// Requests is how many responses are measured, with at most MinConcurrency requests under way.
	Requests, MinConcurrency int
}

// adaptiveLimits returns the least and the highest limit.
func adaptiveLimits(m *configv1.AdaptiveConcurrency) (low, high int) {
	low, high = int(m.GetMinLimit()), int(m.GetMaxLimit())
	if high == 0 {
		high = max(low, DefaultAdaptiveMaxLimit)
	}
	if low == 0 {
		low = min(high, DefaultAdaptiveMinLimit)
	}
	return low, high
}

// adaptiveOf reads a valid limit; nil gives none.
func adaptiveOf(m *configv1.AdaptiveConcurrency) Adaptive {
	if m == nil {
		return Adaptive{}
	}
	low, high := adaptiveLimits(m)
	a := Adaptive{
		MinLimit: low, MaxLimit: high,
		Window:         durationOr(m.GetSampleWindow(), DefaultAdaptiveWindow),
		Percentile:     float64(numberOr(m.GetPercentile(), DefaultAdaptivePercentile)) / 100,
		Buffer:         DefaultAdaptiveBuffer,
		Interval:       durationOr(m.GetMinRttInterval(), DefaultMinRTTInterval),
		Jitter:         DefaultMinRTTJitter,
		Requests:       numberOr(m.GetMinRttRequests(), DefaultMinRTTRequests),
		MinConcurrency: numberOr(m.GetMinConcurrency(), min(low, DefaultMinConcurrency)),
	}
	if m.Buffer != nil {
		a.Buffer = m.GetBuffer()
	}
	if m.MinRttJitter != nil {
		a.Jitter = m.GetMinRttJitter()
	}
	return a
}

// adaptive checks an adaptive limit; nil: there is none.
func (c *checker) adaptive(at string, m *configv1.AdaptiveConcurrency) {
	if m == nil {
		return
	}
	low, high := adaptiveLimits(m)
	c.number(at+"min_limit", m.GetMinLimit(), 0, maxCircuitCount)
	if low <= maxCircuitCount {
		c.number(at+"max_limit", uint32(high), uint32(low), maxCircuitCount)
		c.number(at+"min_concurrency", m.GetMinConcurrency(), 0, uint32(low))
	}
	window, ok := c.duration(at+"sample_window", m.GetSampleWindow(), 10*time.Millisecond, time.Minute)
	if !ok {
		window = DefaultAdaptiveWindow
	}
	c.number(at+"percentile", m.GetPercentile(), 0, 99)
	c.part(at+"buffer", m.Buffer, maxAdaptiveBuffer)
	least := max(windowsOfMinRTT*window, time.Second)
	if m.GetMinRttInterval() == "" && DefaultMinRTTInterval < least {
		c.fail(at+"min_rtt_interval", "", "has to be from %s to %s, ten times the sample_window at least",
			shortDuration(least), shortDuration(maxMinRTTInterval))
	}
	c.duration(at+"min_rtt_interval", m.GetMinRttInterval(), least, maxMinRTTInterval)
	c.part(at+"min_rtt_jitter", m.MinRttJitter, 1)
	c.number(at+"min_rtt_requests", m.GetMinRttRequests(), 0, maxMinRTTRequests)
}

// part checks a number that says how much of something more there is; nil: it is absent.
func (c *checker) part(field string, v *float64, most float64) {
	if v != nil && (!(*v >= 0) || *v > most) { // not a number is not above 0
		c.fail(field, strconv.FormatFloat(*v, 'g', -1, 64), "has to be from 0 to %g, such as 0.25 for a quarter", most)
	}
}
