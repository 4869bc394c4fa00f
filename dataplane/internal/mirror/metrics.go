package mirror

import "gateway.internal/dataplane/internal/telemetry"

// counters count what has become of copies.
type counters struct {
	answered, failed, dropped, tooLarge *telemetry.Counter
	inFlight                            *telemetry.Gauge
}

// newCounters returns those of a route and its mirror's service.
func newCounters(sets *telemetry.Sets, route, service string) *counters {
	set := sets.Of("gateway_mirror_", "route", route, "service", service)
	requests := func(result string) *telemetry.Counter {
		return set.Counter("requests_total",
			"Copies of requests: answered, error (5xx or no answer), dropped (too many, or the request broke off) or too_large.",
			"result", result)
	}
	return &counters{
		answered: requests("answered"), failed: requests("error"), dropped: requests("dropped"),
		tooLarge: requests("too_large"),
		inFlight: set.Gauge("requests_active", "Copies of requests that are under way."),
	}
}
