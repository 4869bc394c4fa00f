package stream

import (
	"maps"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// chunkBytes is how much of resources goes into one message: well below the 4 MiB that gRPC takes, with room for the largest
// resource on top.
const chunkBytes = 1 << 20

// cached is how many updates are kept for further nodes.
const cached = 16

// updates makes what leads nodes from one version to another, once for all of them.
type updates struct {
	mu    sync.Mutex
	made  map[updateKey][]*streamv1.StreamResponse
	order []updateKey
}

type updateKey struct {
	epoch        string
	base, target uint32
	allowShrink  bool
}

// mayShrink reports whether a node that runs a revision may lose most of its routes by going to target. Each revision on the way was judged when it
// was committed: either it did not take most routes away, or it said that this is meant. So several may do together what the last one alone did
// not ask for. Of another epoch's revision nothing is known.
func mayShrink(epoch string, revision uint32, target *catalog.Version) bool {
	return target.AllowShrink || epoch == target.Epoch && revision > 0 && revision+1 < target.Revision
}

// between returns the chunks of the delta from base to target, or of the full snapshot when base is nil.
func (u *updates) between(base, target *catalog.Version, allowShrink bool) []*streamv1.StreamResponse {
	key := updateKey{epoch: target.Epoch, target: target.Revision, allowShrink: allowShrink}
	if base != nil {
		key.base = base.Revision
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if chunks := u.made[key]; chunks != nil {
		return chunks
	}
	chunks := makeUpdate(base, target, allowShrink)
	if u.made == nil {
		u.made = map[updateKey][]*streamv1.StreamResponse{}
	}
	if len(u.order) >= cached {
		delete(u.made, u.order[0])
		u.order = u.order[1:]
	}
	u.made[key] = chunks
	u.order = append(u.order, key)
	return chunks
}

func makeUpdate(base, target *catalog.Version, allowShrink bool) []*streamv1.StreamResponse {
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
	out := make([]*streamv1.StreamResponse, len(all))
	for i, m := range all {
		m.Chunk, m.Chunks = uint32(i+1), uint32(len(all))
		out[i] = &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: m}}
	}
	return out
}

// endpointUpdates returns the chunks that lead from one version of endpoints to another, from nothing when base is nil.
func endpointUpdates(base, target *catalog.EndpointsVersion) []*streamv1.StreamResponse {
	fresh := func() *streamv1.EndpointsUpdate {
		m := &streamv1.EndpointsUpdate{Version: target.Version}
		if base != nil {
			m.BaseVersion = base.Version
		}
		return m
	}
	all := []*streamv1.EndpointsUpdate{fresh()}
	size := 0
	room := func(n int) *streamv1.EndpointsUpdate {
		if size > 0 && size+n > chunkBytes {
			all = append(all, fresh())
			size = 0
		}
		size += n
		return all[len(all)-1]
	}
	for _, id := range slices.Sorted(maps.Keys(target.Services)) {
		set := target.Services[id]
		if base != nil && base.Services[id] == set {
			continue
		}
		m := room(proto.Size(set) + 8)
		m.Upserts = append(m.Upserts, set)
	}
	if base != nil {
		for id := range base.Services {
			if target.Services[id] == nil {
				m := room(len(id) + 8)
				m.Removals = append(m.Removals, id)
			}
		}
	}
	out := make([]*streamv1.StreamResponse, len(all))
	for i, m := range all {
		m.Chunk, m.Chunks = uint32(i+1), uint32(len(all))
		out[i] = &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: m}}
	}
	return out
}
