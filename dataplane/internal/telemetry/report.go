package telemetry

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// Reporter makes reports of what happened since the one before. It is not safe for concurrent use.
type Reporter struct {
	registry *Registry
	last     map[*traffic]reported
	// ended has what routes have let go of, since when: who found it before that may still count.
	ended map[*traffic]ended
}

// ended is traffic that no exchange finds any more.
type ended struct {
	route *Route
	since time.Time
}

// endedFor is how long ended traffic is looked at: far longer than anybody takes to count.
const endedFor = 10 * time.Second

// reported is what was told of a version's traffic of a route.
type reported struct {
	sums
	// still is how many reports in a row have found it as it was.
	still int
}

// lingers is after how many reports without traffic an older version's is let go of: exchanges that it began and that
// end later begin it anew.
const lingers = 2

// NewReporter returns a reporter whose first report covers everything so far.
func (r *Registry) NewReporter() *Reporter {
	return &Reporter{registry: r, last: map[*traffic]reported{}, ended: map[*traffic]ended{}}
}

// Report returns the traffic since the last report, of routes that had any, with an entry for each version that served
// it. commit says that the first so many entries were sent: the next report has what was not. With all of them, this
// report is the last one.
func (p *Reporter) Report() (all []*streamv1.RouteTraffic, connections uint64, commit func(sent int)) {
	now := map[*traffic]reported{}
	var ends []*traffic
	of := map[*traffic]*Route{}
	var found []*traffic // with requests
	newest := p.registry.versions.Load()
	for _, route := range p.registry.sorted() {
		for _, one := range route.served() {
			of[one] = route
		}
	}
	for one, e := range p.ended {
		of[one] = e.route
	}
	for one := range of {
		last := p.last[one]
		r := reported{sums: one.sum()}
		if r.requests == last.requests {
			r = reported{last.sums, last.still + 1} // what may be ahead is told with its requests
		} else {
			found = append(found, one)
		}
		now[one] = r
		if r.still > lingers && one.version.number < newest {
			ends = append(ends, one)
		}
	}
	slices.SortFunc(found, func(a, b *traffic) int {
		x, y := of[a].key, of[b].key
		return cmp.Or(cmp.Compare(x.RouteID, y.RouteID), cmp.Compare(x.ServiceID, y.ServiceID),
			cmp.Compare(a.version.Revision, b.version.Revision))
	})
	for _, one := range found {
		last, r := p.last[one], now[one]
		all = append(all, since(of[one].key, one.version, &r.sums, &last.sums))
	}
	done := 0
	return all, uint64(max(p.registry.connections.Load(), 0)), func(sent int) {
		for ; done < sent; done++ {
			p.last[found[done]] = now[found[done]]
		}
		if sent < len(found) {
			return
		}
		p.last = now
		for _, one := range ends {
			if e, is := p.ended[one]; !is {
				of[one].forget(one)
				p.ended[one] = ended{of[one], time.Now()}
			} else if time.Since(e.since) > endedFor {
				delete(p.ended, one)
				delete(p.last, one)
			}
		}
	}
}

// since returns what was counted since the last report.
func since(k Key, v *Version, now, last *sums) *streamv1.RouteTraffic {
	d := &streamv1.RouteTraffic{
		RouteId: k.RouteID, ServiceId: k.ServiceID, Revision: proto.Uint32(v.Revision), Epoch: v.Epoch,
		Requests: now.requests - last.requests, Errors: now.errors - last.errors,
		DurationMicros: now.nanos/1000 - last.nanos/1000, DurationBuckets: slices.Clone(now.duration[:]),
	}
	for i, n := range last.duration {
		d.DurationBuckets[i] -= n
	}
	return d
}
