package follow

import (
	"fmt"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/chunk"
)

// gather puts the chunks of updates together, aside from what the node runs. Those of sets it hands on one by one: a
// million resources would be there twice.
type gather struct {
	update    chunk.Gather[*streamv1.Update]
	endpoints chunk.Gather[*streamv1.EndpointsUpdate]
	set       chunk.Sequence
}

// add returns a message that is to be taken, or nil while chunks are missing. Chunks that do not follow each other are
// an error: what they are part of can't be made whole.
func (g *gather) add(m *streamv1.StreamResponse) (*streamv1.StreamResponse, error) {
	switch {
	case m.GetUpdate() != nil:
		u := m.GetUpdate()
		of := fmt.Sprintf("revision %d of epoch %q from %d", u.GetRevision(), u.GetEpoch(), u.GetBaseRevision())
		whole, complete, err := g.update.Add(of, u, func(whole, part *streamv1.Update) {
			whole.Upserts = append(whole.Upserts, part.GetUpserts()...)
			whole.Removals = append(whole.Removals, part.GetRemovals()...)
		})
		if !complete {
			return nil, err
		}
		whole.Chunk, whole.Chunks = 1, 1
		return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: whole}}, nil
	case m.GetEndpoints() != nil:
		u := m.GetEndpoints()
		of := fmt.Sprintf("endpoints version %d from %d", u.GetVersion(), u.GetBaseVersion())
		whole, complete, err := g.endpoints.Add(of, u, func(whole, part *streamv1.EndpointsUpdate) {
			whole.Upserts = append(whole.Upserts, part.GetUpserts()...)
			whole.Removals = append(whole.Removals, part.GetRemovals()...)
		})
		if !complete {
			return nil, err
		}
		whole.Chunk, whole.Chunks = 1, 1
		return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: whole}}, nil
	case m.GetSet() != nil:
		if _, _, err := g.set.Add(ofSet(m.GetSet()), m.GetSet()); err != nil {
			return nil, err
		}
		return m, nil
	case m.GetStanding() != nil, m.GetDirective() != nil:
		return m, nil
	}
	return nil, nil //nolint:nilnil // a kind of message that came after this build
}

// ofSet tells an update of a set from others.
func ofSet(u *streamv1.SetUpdate) string {
	return fmt.Sprintf("%s %x from %x", u.GetKind(), u.GetHash(), u.GetBaseHash())
}
