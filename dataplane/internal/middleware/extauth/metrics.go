package extauth

import "gateway.internal/dataplane/internal/telemetry"

// counters count what has become of requests, and what was asked.
type counters struct {
	allowed, denied, failed, cancelled, cached *telemetry.Counter
	asked                                      *telemetry.Durations
}

func newCounters(set *telemetry.Set) counters {
	decisions := func(result string) *telemetry.Counter {
		return set.Counter("decisions_total",
			"Requests that were to be decided about: allowed, denied, error where the service could not say, or cancelled "+
				"where nobody waited for that any more.", "result", result)
	}
	return counters{
		allowed: decisions("allowed"), denied: decisions("denied"), failed: decisions("error"),
		cancelled: decisions("cancelled"),
		cached:    set.Counter("cached_total", "Decisions that were taken from answers that are kept."),
		asked:     set.Durations("request_seconds", "Time that the service took, by requests to it."),
	}
}
