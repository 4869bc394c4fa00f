package telemetry

import (
	"slices"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// Reporter makes reports of what happened since the one before. It is not safe for concurrent use.
type Reporter struct {
	registry *Registry
	last     map[*Route]*streamv1.RouteTraffic // not by key: one that is forgotten and made anew begins at 0
}

// NewReporter returns a reporter whose first report covers everything so far.
func (r *Registry) NewReporter() *Reporter {
	return &Reporter{registry: r, last: map[*Route]*streamv1.RouteTraffic{}}
}

// Report returns the traffic since the last report, of routes that had any. commit makes it the last one: when a report could
// not be sent, leaving commit out lets the next one cover its time too.
func (p *Reporter) Report() (traffic []*streamv1.RouteTraffic, connections uint64, commit func()) {
	now := map[*Route]*streamv1.RouteTraffic{}
	for _, t := range p.registry.sorted() {
		sum, seen := t.totals()
		if !seen {
			continue
		}
		total := &streamv1.RouteTraffic{RouteId: t.key.RouteID, ServiceId: t.key.ServiceID, DurationBuckets: make([]uint64, len(bounds)+1)}
		for mi := range sum.methods {
			m := &sum.methods[mi]
			total.Requests += m.count
			total.DurationMicros += m.durationNanos / 1000
			for i, n := range m.duration {
				total.DurationBuckets[i] += n
			}
			for status, n := range m.statuses {
				if status >= 500 {
					total.Errors += n
				}
			}
		}
		now[t] = total
		if d := minus(total, p.last[t]); d.GetRequests() > 0 {
			traffic = append(traffic, d)
		}
	}
	return traffic, uint64(max(p.registry.connections.Load(), 0)), func() { p.last = now }
}

func minus(a, b *streamv1.RouteTraffic) *streamv1.RouteTraffic {
	d := &streamv1.RouteTraffic{
		RouteId: a.GetRouteId(), ServiceId: a.GetServiceId(), Requests: a.GetRequests() - b.GetRequests(), Errors: a.GetErrors() - b.GetErrors(),
		DurationMicros: a.GetDurationMicros() - b.GetDurationMicros(), DurationBuckets: slices.Clone(a.GetDurationBuckets()),
	}
	for i, n := range b.GetDurationBuckets() {
		d.DurationBuckets[i] -= n
	}
	return d
}
