package follow

import (
	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// maxReportBytes keeps reports well under the 4 MiB that gRPC takes. Without it a node with many routes could come back
// from a long time alone with a report that ends the stream, again and again.
const maxReportBytes = 2 << 20

// split makes parts of a report that is too large for one message. Health comes first, by itself, so that the last part
// has traffic.
func split(r *streamv1.Report, limit int) []*streamv1.Report {
	if proto.Size(r) <= limit {
		return []*streamv1.Report{r}
	}
	fresh := func() *streamv1.Report {
		return &streamv1.Report{Revision: r.GetRevision(), Epoch: r.GetEpoch(), IntervalMicros: r.GetIntervalMicros(),
			ActiveConnections: r.GetActiveConnections()}
	}
	parts := []*streamv1.Report{fresh()}
	parts[0].Degradation = r.GetDegradation()
	size := 0
	room := func(m proto.Message) *streamv1.Report {
		n := proto.Size(m) + 8
		if size > 0 && size+n > limit {
			parts = append(parts, fresh())
			size = 0
		}
		size += n
		return parts[len(parts)-1]
	}
	for _, e := range r.GetEndpoints() {
		p := room(e)
		p.Endpoints = append(p.Endpoints, e)
	}
	for _, e := range r.GetUnchecked() {
		p := room(e)
		p.Unchecked = append(p.Unchecked, e)
	}
	for _, u := range r.GetUses() {
		p := room(u)
		p.Uses = append(p.Uses, u)
	}
	for _, c := range r.GetCircuits() {
		p := room(c)
		p.Circuits = append(p.Circuits, c)
	}
	for _, l := range r.GetLimits() {
		p := room(l)
		p.Limits = append(p.Limits, l)
	}
	if size > 0 && len(r.GetRoutes()) > 0 {
		parts, size = append(parts, fresh()), 0
	}
	for _, t := range r.GetRoutes() {
		p := room(t)
		p.Routes = append(p.Routes, t)
	}
	return parts
}
