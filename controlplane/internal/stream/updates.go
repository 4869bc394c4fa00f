package stream

import (
	"bytes"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/endpoints"
)

// chunkBytes is how much of resources goes into one message: well below the 4 MiB that gRPC takes, with room for the largest
// resource on top.
const chunkBytes = 1 << 20

// updates makes what leads nodes from one version to another, once for all of them, and serialises it once. It keeps what
// leads to one version only, since no other is sent again.
type updates struct {
	mu          sync.Mutex
	target      place
	made        map[updateKey]delivery
	toEndpoints endpointsPlace
	ofEndpoints map[endpointsPlace]delivery
}

type updateKey struct {
	base        uint32
	allowShrink bool
}

// mayShrink reports whether a node that runs a revision may lose most of its routes by going to target. Each revision
// on the way was judged when it was committed: either it did not take most routes away, or it said that this is meant.
// So several may do together what the last one alone did not ask for. Of another epoch's revision nothing is known, and
// nothing was judged against it: one of this epoch has to have said so.
func mayShrink(epoch string, revision uint32, target *catalog.Version) bool {
	switch {
	case target.AllowShrink:
		return true
	case revision == 0: // it has nothing to lose
		return false
	case epoch == target.Epoch:
		return revision+1 < target.Revision
	}
	return target.AllowedShrink > 0
}

// between returns the chunks of the delta from base to target, or of the full snapshot when base is nil.
func (u *updates) between(base, target *catalog.Version, allowShrink bool) (delivery, error) {
	key := updateKey{allowShrink: allowShrink}
	if base != nil {
		key.base = base.Revision
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.target.is(target.Epoch, target.Revision) {
		u.target, u.made = placeOf(target), map[updateKey]delivery{}
	}
	if u.made[key] == nil {
		made, err := makeUpdate(base, target, allowShrink)
		if err != nil {
			return nil, err
		}
		u.made[key] = made
	}
	return u.made[key], nil
}

func makeUpdate(base, target *catalog.Version, allowShrink bool) (delivery, error) {
	hash := target.Config.Hash()
	fresh := func() *streamv1.Update {
		m := &streamv1.Update{
			Epoch: target.Epoch, Revision: target.Revision, Hash: hash[:], RollbackOf: target.RollbackOf, AllowShrink: allowShrink,
			CommittedAt: timestamppb.New(target.CommittedAt),
		}
		if base != nil {
			m.BaseRevision = base.Revision
		}
		return m
	}
	all := []*streamv1.Update{fresh()}
	size := 0
	room := func(n int) *streamv1.Update {
		if size > 0 && size+n > chunkBytes {
			all = append(all, fresh())
			size = 0
		}
		size += n
		return all[len(all)-1]
	}
	add := func(e *config.Entry) {
		r := e.Encoded()
		m := room(proto.Size(r) + 8)
		m.Upserts = append(m.Upserts, r)
	}
	if base == nil {
		for _, k := range config.Kinds() {
			for e := range target.Config.All(k) {
				add(e)
			}
		}
	} else {
		for _, ch := range config.Diff(base.Config, target.Config) {
			if ch.After != nil {
				add(target.Config.ByID(ch.Kind, ch.ID()))
				continue
			}
			ref := &streamv1.ResourceRef{Kind: ch.Kind.Proto(), Id: ch.ID()}
			m := room(proto.Size(ref) + 8)
			m.Removals = append(m.Removals, ref)
		}
	}
	out := make(delivery, len(all))
	for i, m := range all {
		m.Chunk, m.Chunks = uint32(i+1), uint32(len(all))
		var err error
		if out[i], err = encode(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: m}}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// endpoints returns the chunks that lead from base, which the node has as the version in from, to target; from
// nothing when base is nil.
func (u *updates) endpoints(base *catalog.EndpointsVersion, from endpointsPlace,
	target *catalog.EndpointsVersion) (delivery, error) {
	var have endpoints.Sets
	if base == nil {
		from = endpointsPlace{}
	} else {
		have = base.Sets
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if to := (endpointsPlace{target.Version, target.Hash()}); u.toEndpoints != to {
		u.toEndpoints, u.ofEndpoints = to, map[endpointsPlace]delivery{}
	}
	if chunks := u.ofEndpoints[from]; chunks != nil {
		return chunks, nil
	}
	whole := &streamv1.EndpointsUpdate{Version: target.Version, BaseVersion: from.version,
		Hash: bytes.Clone(u.toEndpoints.hash[:])}
	whole.Upserts, whole.Removals = endpoints.Diff(have, target.Sets)
	var chunks delivery
	for _, m := range endpoints.Split(whole, chunkBytes) {
		chunk, err := encode(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: m}})
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, chunk)
	}
	u.ofEndpoints[from] = chunks
	return chunks, nil
}
