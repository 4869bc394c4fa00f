package endpoints

import (
	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/chunk"
)

// Split distributes an update over chunks of up to limit bytes, one endpoint at least in each. A set that does not
// fit goes on in the next chunk.
func Split(u *streamv1.EndpointsUpdate, limit int) []*streamv1.EndpointsUpdate {
	fresh := func() *streamv1.EndpointsUpdate {
		return &streamv1.EndpointsUpdate{Version: u.GetVersion(), BaseVersion: u.GetBaseVersion(), Hash: u.GetHash()}
	}
	split := chunk.Splitter[*streamv1.EndpointsUpdate]{Filler: chunk.Filler{Limit: limit}, Fresh: fresh}
	room := func(n int) (*streamv1.EndpointsUpdate, bool) { return split.Room(n + partBytes) }
	for _, id := range u.GetRemovals() {
		m, _ := room(len(id))
		m.Removals = append(m.Removals, id)
	}
	for _, set := range u.GetUpserts() {
		m, _ := room(len(set.GetServiceId()))
		part := &streamv1.ServiceEndpoints{ServiceId: set.GetServiceId(), Delta: set.GetDelta()}
		m.Upserts = append(m.Upserts, part)
		more := func(n int) {
			m, begun := room(n)
			if begun {
				part = &streamv1.ServiceEndpoints{ServiceId: set.GetServiceId(), Delta: true}
				m.Upserts = append(m.Upserts, part)
				split.Add(partBytes + len(set.GetServiceId()))
			}
		}
		for _, e := range set.GetEndpoints() {
			more(proto.Size(e))
			part.Endpoints = append(part.Endpoints, e)
		}
		for _, r := range set.GetRemovals() {
			more(proto.Size(r))
			part.Removals = append(part.Removals, r)
		}
	}
	return split.Messages(func(m *streamv1.EndpointsUpdate, n, of uint32) { m.Chunk, m.Chunks = n, of })
}

// partBytes is more than what a tag, a length and a flag take.
const partBytes = 16
