package follow

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"

	"gateway.internal/dataplane/internal/consumer"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/endpoints"
)

// state is what a node has been told, as far as it has taken it.
type state struct {
	epoch            string
	revision         uint32
	config           *config.Config // without the kinds that are apart
	endpointsVersion uint64
	endpoints        endpoints.Sets
	consumers        *consumer.Set
	consumersOf      place // the revision that these are of
}

// place names a revision; the zero value names none.
type place struct {
	epoch    string
	revision uint32
}

// before reports whether it is an older revision of the same epoch.
func (p place) before(other place) bool { return p.epoch == other.epoch && p.revision < other.revision }

func newState() *state {
	return &state{config: config.Empty(), consumers: &consumer.Set{}}
}

// refusal is why an update is not taken.
type refusal struct{ problems []*streamv1.Problem }

func (r *refusal) Error() string { return r.problems[0].GetReason() }

func refuse(format string, args ...any) error {
	return &refusal{[]*streamv1.Problem{{Reason: fmt.Sprintf(format, args...)}}}
}

// errStale is an update that starts from something else than what the node has, or leads to something else than it
// says: the two sides do not agree on what the node runs, and only a full snapshot helps.
var errStale = errors.New("the control plane's view of this node is not what it runs")

func stale(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errStale, fmt.Sprintf(format, args...))
}

// next works out what a whole update leads to. The error is a *refusal, or errStale for a delta that does not fit.
func (s *state) next(u *streamv1.Update) (*state, error) {
	full := u.GetBaseRevision() == 0
	if u.GetEpoch() == s.epoch && u.GetRevision() < s.revision && !u.GetTarget() {
		return nil, refuse("revision %d is older than %d, which the node runs", u.GetRevision(), s.revision)
	}
	if !full && (u.GetEpoch() != s.epoch || u.GetBaseRevision() != s.revision) {
		return nil, stale("the update starts from revision %d of epoch %q, the node runs %d of %q", u.GetBaseRevision(), u.GetEpoch(), s.revision, s.epoch)
	}
	c := *s
	if full {
		c.config = config.Empty()
	}
	together, apart, err := part(u)
	if err != nil {
		return nil, err
	}
	entries, err := decode(together.GetUpserts())
	if err != nil {
		return nil, err
	}
	c.config, err = c.config.WithEntries(entries, together.GetRemovals())
	if err == nil && apart != nil {
		err = c.takeConsumers(apart, u, full)
	}
	if err == nil {
		if hash := c.hash(u); !bytes.Equal(hash[:], u.GetHash()) {
			err = errors.New("the update leads to another content than it says")
		}
	}
	switch {
	case err != nil && full:
		return nil, refuse("%s", err)
	case err != nil:
		return nil, stale("%s", err)
	}
	c.epoch, c.revision = u.GetEpoch(), u.GetRevision()
	return &c, nil
}

// decode reads resources, and reports all that can't be read.
func decode(resources []*streamv1.Resource) ([]*config.Entry, error) {
	r := &refusal{}
	entries := make([]*config.Entry, 0, len(resources))
	for _, res := range resources {
		e, err := config.Decode(res)
		if err != nil {
			p := &streamv1.Problem{Name: res.GetId(), Reason: err.Error()}
			if kind, err := config.KindOf(res.GetKind()); err == nil {
				p.Kind = kind.String()
			}
			r.problems = append(r.problems, p)
			continue
		}
		entries = append(entries, e)
	}
	if len(r.problems) > 0 {
		return nil, r
	}
	return entries, nil
}

// checkShrink refuses what would take the node's traffic away without a commit that said so: most routes, or everything
// at once. The last resource may be removed by itself: who does that knows what it does.
func (s *state) checkShrink(u *streamv1.Update, next *config.Config) error {
	if u.GetAllowShrink() {
		return nil
	}
	lost, of := config.LostRoutes(s.config, next)
	if lost > 0 && of >= config.GuardedRoutes {
		return refuse("it removes %d of %d routes, and its commit did not say that this is meant", lost, of)
	}
	single := u.GetBaseRevision() != 0 && len(u.GetRemovals()) == 1
	if lost > 0 && isEmpty(next) && !single {
		return refuse("it is empty, and its commit did not say that this is meant")
	}
	return nil
}

func isEmpty(c *config.Config) bool {
	for _, k := range config.Kinds() {
		if c.Len(k) > 0 {
			return false
		}
	}
	return true
}

// nextEndpoints works out what a whole update of endpoints leads to. The error is errStale.
func (s *state) nextEndpoints(u *streamv1.EndpointsUpdate) (*state, error) {
	switch {
	case u.GetVersion() == 0: // what stands for none
		return nil, stale("the update of endpoints has no version")
	case u.GetBaseVersion() != 0 && u.GetBaseVersion() != s.endpointsVersion:
		return nil, stale("the update starts from endpoints version %d, the node has %d", u.GetBaseVersion(), s.endpointsVersion)
	}
	next, err := s.endpoints.With(u)
	if err != nil {
		return nil, stale("%s", err)
	}
	c := *s
	c.endpoints, c.endpointsVersion = next, u.GetVersion()
	return &c, nil
}

// found returns the endpoints by service id.
func (s *state) found() map[string][]*configv1.Endpoint {
	out := make(map[string][]*configv1.Endpoint, len(s.endpoints.Services))
	for id, set := range s.endpoints.Services {
		out[id] = set.GetEndpoints()
	}
	return out
}

// records returns everything but what is apart, as it is kept on disk.
func (s *state) records() iter.Seq[*streamv1.StreamResponse] {
	hash := s.config.Hash()
	u := &streamv1.Update{Epoch: s.epoch, Revision: s.revision, Hash: hash[:], Chunk: 1, Chunks: 1, AllowShrink: true,
		Apart: apartKinds()}
	for _, k := range config.Together() {
		for e := range s.config.All(k) {
			u.Upserts = append(u.Upserts, e.Encoded())
		}
	}
	out := []*streamv1.StreamResponse{{Message: &streamv1.StreamResponse_Update{Update: u}}}
	if s.endpointsVersion != 0 {
		e := &streamv1.EndpointsUpdate{Version: s.endpointsVersion, Chunk: 1, Chunks: 1}
		for _, set := range s.endpoints.Services {
			e.Upserts = append(e.Upserts, set)
		}
		out = append(out, &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: e}})
	}
	return slices.Values(out)
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
