package config

import (
	"math"
	"strconv"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// The defaults of absent fields.
const (
	DefaultConsecutiveFailures = 5
	DefaultOutlierInterval     = 10 * time.Second
	DefaultBaseEjectionTime    = 30 * time.Second
	DefaultMaxEjectionTime     = 5 * time.Minute
	DefaultMaxEjectionPercent  = 10
)

// Outlier is how a service's endpoints are ejected, with its defaults filled in. Two that are equal eject alike.
type Outlier struct {
	// Consecutive5xx and ConsecutiveGateway are how many failures in a row eject an endpoint; 0: none do.
	Consecutive5xx, ConsecutiveGateway int
	// Interval is how often endpoints are compared.
	Interval time.Duration
	// BaseEjectionTime is how long the first ejection is, and MaxEjectionTime the longest one.
	BaseEjectionTime, MaxEjectionTime time.Duration
	// MaxEjectionPercent is the share of endpoints that may be ejected at a time, 1 to 100.
	MaxEjectionPercent int
	// SuccessRate, FailurePercentage and Latency judge by what ended in an interval.
	SuccessRate       OutlierRate
	FailurePercentage OutlierRate
	Latency           OutlierLatency
}

// OutlierRate judges shares of failures.
type OutlierRate struct {
	// MinimumHosts is how many endpoints have to have RequestVolume requests in an interval; 0: nobody is judged.
	MinimumHosts, RequestVolume int
	// Limit is in thousandths of the standard deviation for SuccessRate, and percent for FailurePercentage.
	Limit int
}

// OutlierLatency judges times.
type OutlierLatency struct {
	// MinimumHosts is how many endpoints have to have RequestVolume requests in an interval; 0: nobody is judged.
	MinimumHosts, RequestVolume int
	// Factor is how many times as long as the median an endpoint may take.
	Factor float64
	// Percentile is what is compared, 1 to 99; 0: the mean.
	Percentile int
	// Minimum is the time up to which nobody is ejected.
	Minimum time.Duration
}

// outlierOf reads valid settings; nil gives nil.
func outlierOf(o *configv1.OutlierDetection) *Outlier {
	if o == nil {
		return nil
	}
	set := &Outlier{
		Consecutive5xx: DefaultConsecutiveFailures, ConsecutiveGateway: DefaultConsecutiveFailures,
		Interval:           durationOr(o.GetInterval(), DefaultOutlierInterval),
		BaseEjectionTime:   durationOr(o.GetBaseEjectionTime(), DefaultBaseEjectionTime),
		MaxEjectionPercent: numberOr(o.GetMaxEjectionPercent(), DefaultMaxEjectionPercent),
	}
	set.MaxEjectionTime = durationOr(o.GetMaxEjectionTime(), max(DefaultMaxEjectionTime, set.BaseEjectionTime))
	if o.Consecutive_5Xx != nil {
		set.Consecutive5xx = int(o.GetConsecutive_5Xx())
	}
	if o.ConsecutiveGatewayFailures != nil {
		set.ConsecutiveGateway = int(o.GetConsecutiveGatewayFailures())
	}
	if r := o.GetSuccessRate(); r != nil {
		set.SuccessRate = OutlierRate{numberOr(r.GetMinimumHosts(), 5), numberOr(r.GetRequestVolume(), 100),
			numberOr(r.GetStdevFactor(), 1900)}
	}
	if r := o.GetFailurePercentage(); r != nil {
		set.FailurePercentage = OutlierRate{numberOr(r.GetMinimumHosts(), 5), numberOr(r.GetRequestVolume(), 50),
			numberOr(r.GetThreshold(), 85)}
	}
	if l := o.GetLatency(); l != nil {
		set.Latency = OutlierLatency{
			MinimumHosts: numberOr(l.GetMinimumHosts(), 3), RequestVolume: numberOr(l.GetRequestVolume(), 100),
			Factor: l.GetFactor(), Percentile: int(l.GetPercentile()),
			Minimum: durationOr(l.GetMinimum(), 10*time.Millisecond),
		}
		if set.Latency.Factor == 0 {
			set.Latency.Factor = 3
		}
	}
	return set
}

func (c *checker) outlierDetection(o *configv1.OutlierDetection) {
	const at = "outlier_detection."
	c.number(at+"consecutive_5xx", o.GetConsecutive_5Xx(), 0, 1000)
	c.number(at+"consecutive_gateway_failures", o.GetConsecutiveGatewayFailures(), 0, 1000)
	c.duration(at+"interval", o.GetInterval(), 100*time.Millisecond, time.Hour)
	base, ok := c.duration(at+"base_ejection_time", o.GetBaseEjectionTime(), 100*time.Millisecond, time.Hour)
	if !ok {
		base = DefaultBaseEjectionTime
	}
	if d, err := ParseDuration(o.GetMaxEjectionTime()); err == nil && d < base {
		c.fail(at+"max_ejection_time", o.GetMaxEjectionTime(), "is below base_ejection_time, %s", shortDuration(base))
	} else {
		c.duration(at+"max_ejection_time", o.GetMaxEjectionTime(), 100*time.Millisecond, 24*time.Hour)
	}
	c.number(at+"max_ejection_percent", o.GetMaxEjectionPercent(), 0, 100)
	hosts := func(field string, n, least uint32) {
		if n != 0 {
			c.number(at+field+".minimum_hosts", n, least, maxEndpoints)
		}
	}
	if r := o.GetSuccessRate(); r != nil {
		hosts("success_rate", r.GetMinimumHosts(), 2)
		c.number(at+"success_rate.request_volume", r.GetRequestVolume(), 0, 1_000_000)
		c.number(at+"success_rate.stdev_factor", r.GetStdevFactor(), 0, 10_000)
	}
	if r := o.GetFailurePercentage(); r != nil {
		hosts("failure_percentage", r.GetMinimumHosts(), 1)
		c.number(at+"failure_percentage.request_volume", r.GetRequestVolume(), 0, 1_000_000)
		c.number(at+"failure_percentage.threshold", r.GetThreshold(), 0, 100)
	}
	if l := o.GetLatency(); l != nil {
		hosts("latency", l.GetMinimumHosts(), 3)
		c.number(at+"latency.request_volume", l.GetRequestVolume(), 0, 1_000_000)
		if f := l.GetFactor(); f != 0 && (math.IsNaN(f) || f <= 1 || f > 1000) {
			c.fail(at+"latency.factor", strconv.FormatFloat(f, 'g', -1, 64), "has to be above 1, up to 1000")
		}
		c.number(at+"latency.percentile", l.GetPercentile(), 0, 99)
		c.duration(at+"latency.minimum", l.GetMinimum(), 0, time.Minute)
	}
}
