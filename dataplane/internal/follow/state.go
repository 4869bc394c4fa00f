package follow

import (
	"bytes"
	"fmt"
	"maps"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// state is what a node has been told, as far as it has taken it.
type state struct {
	epoch            string
	revision         uint32
	config           *config.Config
	endpointsVersion uint64
	endpoints        map[string]*streamv1.ServiceEndpoints
}

func newState() *state {
	return &state{config: config.Empty(), endpoints: map[string]*streamv1.ServiceEndpoints{}}
}

// refusal is why an update is not taken.
type refusal struct{ problems []*streamv1.Problem }

func (r *refusal) Error() string { return r.problems[0].GetReason() }

func refuse(format string, args ...any) error {
	return &refusal{[]*streamv1.Problem{{Reason: fmt.Sprintf(format, args...)}}}
}

// next works out what a whole update leads to.
func (s *state) next(u *streamv1.Update) (*state, error) {
	base := s.config
	switch {
	case u.GetBaseRevision() == 0:
		base = config.Empty()
	case u.GetEpoch() != s.epoch || u.GetBaseRevision() != s.revision:
		return nil, refuse("the update starts from revision %d, but the node runs %d", u.GetBaseRevision(), s.revision)
	}
	if u.GetEpoch() == s.epoch && u.GetRevision() < s.revision {
		return nil, refuse("revision %d is older than %d, which the node runs", u.GetRevision(), s.revision)
	}
	r := &refusal{}
	entries := make([]*config.Entry, 0, len(u.GetUpserts()))
	for _, res := range u.GetUpserts() {
		e, err := config.Decode(res)
		if err != nil {
			kind, _ := config.KindOf(res.GetKind())
			r.problems = append(r.problems, &streamv1.Problem{Kind: kind.String(), Name: res.GetId(), Reason: err.Error()})
			continue
		}
		entries = append(entries, e)
	}
	if len(r.problems) > 0 {
		return nil, r
	}
	next, err := base.WithEntries(entries, u.GetRemovals())
	if err != nil {
		return nil, refuse("%s", err)
	}
	if hash := next.Hash(); !bytes.Equal(hash[:], u.GetHash()) {
		return nil, refuse("the update leads to another content than it says")
	}
	before, after := s.config.Len(config.Route), next.Len(config.Route)
	if !u.GetAllowShrink() && before >= 10 && after*2 < before {
		return nil, refuse("it removes %d of %d routes, and its commit did not say that this is meant", before-after, before)
	}
	c := *s
	c.epoch, c.revision, c.config = u.GetEpoch(), u.GetRevision(), next
	return &c, nil
}

// nextEndpoints works out what a whole update of endpoints leads to.
func (s *state) nextEndpoints(u *streamv1.EndpointsUpdate) (*state, error) {
	c := *s
	switch {
	case u.GetBaseVersion() == 0:
		c.endpoints = map[string]*streamv1.ServiceEndpoints{}
	case u.GetBaseVersion() != s.endpointsVersion:
		return nil, refuse("the update starts from endpoints version %d, but the node has %d", u.GetBaseVersion(), s.endpointsVersion)
	default:
		c.endpoints = maps.Clone(s.endpoints)
	}
	for _, id := range u.GetRemovals() {
		delete(c.endpoints, id)
	}
	for _, set := range u.GetUpserts() {
		c.endpoints[set.GetServiceId()] = set
	}
	c.endpointsVersion = u.GetVersion()
	return &c, nil
}

// found returns the endpoints by service id.
func (s *state) found() map[string][]*configv1.Endpoint {
	out := make(map[string][]*configv1.Endpoint, len(s.endpoints))
	for id, set := range s.endpoints {
		out[id] = set.GetEndpoints()
	}
	return out
}

// records returns everything as it is kept on disk.
func (s *state) records() []*streamv1.StreamResponse {
	hash := s.config.Hash()
	u := &streamv1.Update{Epoch: s.epoch, Revision: s.revision, Hash: hash[:], Chunk: 1, Chunks: 1, AllowShrink: true}
	for _, k := range config.Kinds() {
		for e := range s.config.All(k) {
			u.Upserts = append(u.Upserts, e.Encoded())
		}
	}
	out := []*streamv1.StreamResponse{{Message: &streamv1.StreamResponse_Update{Update: u}}}
	if s.endpointsVersion != 0 {
		e := &streamv1.EndpointsUpdate{Version: s.endpointsVersion, Chunk: 1, Chunks: 1}
		for _, set := range s.endpoints {
			e.Upserts = append(e.Upserts, set)
		}
		out = append(out, &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: e}})
	}
	return out
}

// replay returns the state that records on disk lead to, as far as they fit together.
func replay(records []*streamv1.StreamResponse) (*state, error) {
	s := newState()
	for i, m := range records {
		var next *state
		var err error
		switch {
		case m.GetUpdate() != nil:
			next, err = s.next(m.GetUpdate())
		case m.GetEndpoints() != nil:
			next, err = s.nextEndpoints(m.GetEndpoints())
		default:
			err = refuse("record %d is empty", i+1)
		}
		if err != nil {
			return s, fmt.Errorf("record %d of %d: %w", i+1, len(records), err)
		}
		s = next
	}
	return s, nil
}

// gather puts the chunks of updates together.
type gather struct {
	update    *streamv1.Update
	endpoints *streamv1.EndpointsUpdate
}

// add returns a message whose chunks are complete, or nil.
func (g *gather) add(m *streamv1.StreamResponse) *streamv1.StreamResponse {
	switch {
	case m.GetUpdate() != nil:
		u := m.GetUpdate()
		if u.GetChunk() <= 1 || g.update == nil {
			g.update = u
		} else {
			g.update.Upserts = append(g.update.Upserts, u.GetUpserts()...)
			g.update.Removals = append(g.update.Removals, u.GetRemovals()...)
		}
		if u.GetChunk() < u.GetChunks() {
			return nil
		}
		whole := g.update
		whole.Chunk, whole.Chunks = 1, 1
		g.update = nil
		return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: whole}}
	case m.GetEndpoints() != nil:
		u := m.GetEndpoints()
		if u.GetChunk() <= 1 || g.endpoints == nil {
			g.endpoints = u
		} else {
			g.endpoints.Upserts = append(g.endpoints.Upserts, u.GetUpserts()...)
			g.endpoints.Removals = append(g.endpoints.Removals, u.GetRemovals()...)
		}
		if u.GetChunk() < u.GetChunks() {
			return nil
		}
		whole := g.endpoints
		whole.Chunk, whole.Chunks = 1, 1
		g.endpoints = nil
		return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: whole}}
	}
	return nil
}
