package follow

import (
	"fmt"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// gather puts the chunks of updates together, aside from what the node runs.
type gather struct {
	update    *streamv1.Update
	endpoints *streamv1.EndpointsUpdate
}

// add returns a message whose chunks are complete, or nil while some are missing. Chunks that do not follow each other are an error:
// what they are part of can't be made whole.
func (g *gather) add(m *streamv1.StreamResponse) (*streamv1.StreamResponse, error) {
	switch {
	case m.GetUpdate() != nil:
		return g.addUpdate(m.GetUpdate())
	case m.GetEndpoints() != nil:
		return g.addEndpoints(m.GetEndpoints())
	case m.GetStanding() != nil:
		return m, nil
	}
	return nil, nil //nolint:nilnil // a kind of message that came after this build
}

func (g *gather) addUpdate(u *streamv1.Update) (*streamv1.StreamResponse, error) {
	whole := g.update
	if whole == nil || u.GetChunk() <= 1 {
		if u.GetChunk() > 1 {
			return nil, fmt.Errorf("revision %d began with chunk %d of %d", u.GetRevision(), u.GetChunk(), u.GetChunks())
		}
		whole = u
	} else {
		if u.GetEpoch() != whole.GetEpoch() || u.GetRevision() != whole.GetRevision() || u.GetBaseRevision() != whole.GetBaseRevision() ||
			u.GetChunk() != whole.GetChunk()+1 || u.GetChunks() != whole.GetChunks() {
			return nil, fmt.Errorf("chunk %d of %d of revision %d came after chunk %d of %d of revision %d",
				u.GetChunk(), u.GetChunks(), u.GetRevision(), whole.GetChunk(), whole.GetChunks(), whole.GetRevision())
		}
		whole.Chunk = u.GetChunk()
		whole.Upserts = append(whole.Upserts, u.GetUpserts()...)
		whole.Removals = append(whole.Removals, u.GetRemovals()...)
	}
	g.update = whole
	if whole.GetChunk() < whole.GetChunks() {
		return nil, nil //nolint:nilnil // more are to come
	}
	g.update = nil
	whole.Chunk, whole.Chunks = 1, 1
	return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: whole}}, nil
}

func (g *gather) addEndpoints(u *streamv1.EndpointsUpdate) (*streamv1.StreamResponse, error) {
	whole := g.endpoints
	if whole == nil || u.GetChunk() <= 1 {
		if u.GetChunk() > 1 {
			return nil, fmt.Errorf("endpoints version %d began with chunk %d of %d", u.GetVersion(), u.GetChunk(), u.GetChunks())
		}
		whole = u
	} else {
		if u.GetVersion() != whole.GetVersion() || u.GetBaseVersion() != whole.GetBaseVersion() ||
			u.GetChunk() != whole.GetChunk()+1 || u.GetChunks() != whole.GetChunks() {
			return nil, fmt.Errorf("chunk %d of %d of endpoints version %d came after chunk %d of %d of version %d",
				u.GetChunk(), u.GetChunks(), u.GetVersion(), whole.GetChunk(), whole.GetChunks(), whole.GetVersion())
		}
		whole.Chunk = u.GetChunk()
		whole.Upserts = append(whole.Upserts, u.GetUpserts()...)
		whole.Removals = append(whole.Removals, u.GetRemovals()...)
	}
	g.endpoints = whole
	if whole.GetChunk() < whole.GetChunks() {
		return nil, nil //nolint:nilnil // more are to come
	}
	g.endpoints = nil
	whole.Chunk, whole.Chunks = 1, 1
	return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: whole}}, nil
}
