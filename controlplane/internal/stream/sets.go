package stream

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/catalog"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/chunk"
	"gateway.internal/shared/config"
)

// content is what a node has, or is to have, of something that travels apart from the configuration: the endpoints, or
// the resources of a kind.
type content struct {
	// place is the revision that resources are of; zero for endpoints.
	place place
	// version is that of endpoints, which is a number of the process that sent them; 0 for resources.
	version uint64
	hash    [32]byte
}

// none reports whether it is nothing.
func (c content) none() bool { return c == content{} }

// track is how a stream stands to one of these. All go the same way: one update at a time, from what the node has to
// what it is to have, whatever came in between.
type track struct {
	of set
	// has is what the node has, sent what is under way, and refused what it did not take: it is not sent again.
	has, sent, refused content
	// whole says that the node asks for all.
	whole bool
}

// set is something that travels apart from the configuration.
type set interface {
	// wanted returns what a node is to have whose target is a version, nil where that can't be had; none: nothing is
	// known.
	wanted(target *catalog.Version) content
	// is reports whether a node that has one need not be sent the other.
	is(has, wanted content) bool
	// chunks returns what leads from what a node has, where that is known, or from nothing, to what it is to have, or to
	// something on the way there that it has not refused, which comes back as sent.
	chunks(n *nodeStream, t *track, wanted content, target *catalog.Version) (d delivery, sent content, err error)
	// answers reports whether a result is one to this set.
	answers(r *streamv1.Result, sent content) bool
}

// base is what the node has as far as it goes on from there: nothing where it asks for all.
func (t *track) base() content {
	if t.whole {
		return content{}
	}
	return t.has
}

// sendSets sends what leads to what is apart from the configuration of target, where nothing of it is under way.
// Without a target it sends what needs none.
func (n *nodeStream) sendSets(target *catalog.Version) error {
	for _, t := range n.tracks {
		wanted := t.of.wanted(target)
		refused := !t.refused.none() && t.of.is(t.refused, wanted)
		if !t.sent.none() || wanted.none() || refused {
			continue
		}
		if !t.whole && t.of.is(t.has, wanted) {
			t.has = wanted // so that it stays something that is in memory
			continue
		}
		d, sent, err := t.of.chunks(n, t, wanted, target)
		if err != nil {
			return err
		}
		t.sent = sent
		if err := n.deliver(d); err != nil {
			return err
		}
	}
	return nil
}

// setsLag reports whether resources are under way that are not target's: those follow when the node has answered, and
// the configuration after them.
func (n *nodeStream) setsLag(target *catalog.Version) bool {
	return slices.ContainsFunc(n.tracks, func(t *track) bool {
		return !t.sent.none() && t.sent.version == 0 && !t.of.is(t.sent, t.of.wanted(target))
	})
}

// answered takes a result in, and reports whether it answered something that is apart from the configuration.
func (n *nodeStream) answered(r *streamv1.Result) bool {
	for _, t := range n.tracks {
		if t.sent.none() || !t.of.answers(r, t.sent) {
			continue
		}
		if r.GetOutcome() == streamv1.Result_OUTCOME_REJECTED {
			t.refused = t.sent
			n.logProblems("node refused what is apart from the configuration", r, t.sent.place)
		} else {
			t.has, t.refused, t.whole = t.sent, content{}, false
		}
		t.sent = content{}
		return true
	}
	return false
}

// endpointSet is what discovery has found.
type endpointSet struct{ server *Server }

func (s endpointSet) wanted(*catalog.Version) content {
	e := s.server.catalog.Endpoints()
	if e.Version == 0 {
		return content{}
	}
	return content{version: e.Version, hash: e.Hash()}
}

func (s endpointSet) is(has, wanted content) bool { return has == wanted }

func (s endpointSet) chunks(n *nodeStream, t *track, _ content, _ *catalog.Version) (delivery, content, error) {
	e, has := s.server.catalog.Endpoints(), t.base()
	var base *catalog.EndpointsVersion // nil: all
	if has.version != 0 {
		base = s.server.catalog.EndpointsWith(has.hash)
	}
	d, err := n.updates.endpoints(base, has, e)
	return d, content{version: e.Version, hash: e.Hash()}, err
}

func (s endpointSet) answers(r *streamv1.Result, sent content) bool {
	return r.GetEndpointsVersion() == sent.version
}

// resourceSet is the resources of a kind.
type resourceSet struct {
	server *Server
	kind   config.Kind
}

func (s resourceSet) wanted(target *catalog.Version) content {
	if target == nil {
		return content{}
	}
	return content{place: placeOf(target), hash: target.Config.HashOf(s.kind)}
}

// is compares the content: most revisions change nothing of it.
func (s resourceSet) is(has, wanted content) bool { return has.hash == wanted.hash }

func (s resourceSet) chunks(n *nodeStream, t *track, wanted content, v *catalog.Version) (delivery, content, error) {
	base := s.base(n, t.base())
	if base == nil {
		d, of, err := n.updates.wholeSet(s.kind, v, t.refused.hash)
		if err != nil {
			return nil, content{}, err
		}
		return d, s.wanted(of), nil
	}
	d, err := n.updates.setBetween(s.kind, base, v)
	return d, wanted, err
}

// base returns a version that has what a node has, or nil. Most revisions change nothing of it, so that there may be
// many: one that has to be recalled from the history is the last resort.
func (s resourceSet) base(n *nodeStream, has content) *catalog.Version {
	if has.none() {
		return nil
	}
	if v := s.server.catalog.With(s.kind, has.hash); v != nil {
		return v
	}
	for _, p := range []place{n.runs, has.place} {
		if v := n.versionOf(p); v != nil && v.Config.HashOf(s.kind) == has.hash {
			return v
		}
	}
	return nil
}

func (s resourceSet) answers(r *streamv1.Result, _ content) bool { return r.GetSet() == s.kind.Proto() }

// makeSet returns the chunks of what leads from the resources of a kind at base to those at target.
func makeSet(kind config.Kind, base, target *catalog.Version) (delivery, error) {
	from := base.Config.HashOf(kind)
	split := chunk.Splitter[*streamv1.SetUpdate]{Filler: chunk.Filler{Limit: chunkBytes},
		Fresh: func() *streamv1.SetUpdate { return newSetUpdate(kind, target, from[:]) }}
	for _, ch := range config.DiffOf(base.Config, target.Config, kind) {
		if ch.After == nil {
			m, _ := split.Room(len(ch.ID()) + 8)
			m.Removals = append(m.Removals, ch.ID())
			continue
		}
		r := ch.After.Encoded()
		m, _ := split.Room(proto.Size(r) + 8)
		m.Upserts = append(m.Upserts, r)
	}
	var d delivery
	var err error
	for _, m := range split.Messages(func(m *streamv1.SetUpdate, n, of uint32) { m.Chunk, m.Chunks = n, of }) {
		if d, err = d.with(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Set{Set: m}}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// makeWholeSet returns the chunks of all resources of a kind. They are serialised one after the other: there may be a
// million resources.
func makeWholeSet(kind config.Kind, target *catalog.Version) (delivery, error) {
	const overhead = 64 // of an id, a hash, and what stands before each
	chunks, runs := chunk.Runs(target.Config.All(kind), chunkBytes, func(e *config.Entry) int {
		return e.Size() + len(e.ID()) + overhead
	})
	var d delivery
	var err error
	for run := range runs {
		m := newSetUpdate(kind, target, nil)
		m.Chunk, m.Chunks = uint32(len(d)+1), chunks
		for _, e := range run {
			m.Upserts = append(m.Upserts, e.Encoded())
		}
		if d, err = d.with(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Set{Set: m}}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func newSetUpdate(kind config.Kind, target *catalog.Version, from []byte) *streamv1.SetUpdate {
	hash := target.Config.HashOf(kind)
	return &streamv1.SetUpdate{Kind: kind.Proto(), Epoch: target.Epoch, Revision: target.Revision, Hash: hash[:],
		BaseHash: from}
}
