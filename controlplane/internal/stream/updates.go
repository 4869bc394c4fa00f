package stream

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/chunk"
	"gateway.internal/shared/config"
	"gateway.internal/shared/endpoints"
)

// chunkBytes is how much of resources goes into one message: well below the 4 MiB that gRPC takes. A resource that is
// larger, up to config.MaxResourceBytes, has a message to itself.
const chunkBytes = 1 << 20

// updates makes what leads nodes from one version to another, once for all of them, and serialises it once.
type updates struct {
	purges int64 // how many there were, of the history's secrets

	mu    sync.Mutex
	made  map[updateKey]*made
	bytes int
	// whole has sets as a whole, of maxWhole versions of a kind at most, which it holds whether or not the catalog still
	// does. They do not count among what is made: one may be larger than all of that may be.
	whole map[config.Kind][]*whole
	// expiring says that expire is going to look at these.
	expiring bool
}

// whole is all resources of a kind, made at the first call, for all who wait for it meanwhile.
type whole struct {
	version *catalog.Version
	make    func() (delivery, error)
	used    time.Time
}

// updateKey tells updates apart: of a configuration without some kinds, of a set, or of endpoints.
type updateKey struct {
	set                 config.Kind // 0: none
	apart               string      // kinds that are left out
	from, to            content
	allowShrink, target bool
}

// made is an update that has been made.
type made struct {
	delivery delivery
	bytes    int
	used     time.Time
}

const (
	// maxMade and maxMadeBytes bound the updates that are kept, besides the last one.
	maxMade      = 64
	maxMadeBytes = 64 << 20
	// maxWhole is how many whole sets of a kind are kept: nodes may be held on a version far from the newest one.
	maxWhole = 2
	// madeFor is how long an update is kept that no node asks for, or up to twice that.
	madeFor = time.Minute
)

// get returns an update, which is made once. The caller holds mu.
func (u *updates) get(key updateKey, make func() (delivery, error)) (delivery, error) {
	now := time.Now()
	if m := u.made[key]; m != nil {
		m.used = now
		return m.delivery, nil
	}
	d, err := make()
	if err != nil {
		return nil, err
	}
	if u.made == nil {
		u.made = map[updateKey]*made{}
	}
	m := &made{delivery: d, used: now}
	for _, part := range d {
		m.bytes += len(part)
	}
	u.made[key] = m
	u.bytes += m.bytes
	u.evict(key, now)
	u.expireLater()
	return d, nil
}

// expireLater has what nobody asks for go, also where nothing more is made. The caller holds mu.
func (u *updates) expireLater() {
	if !u.expiring {
		u.expiring = true
		time.AfterFunc(madeFor, u.expire)
	}
}

// expire lets go of what nobody has asked for lately, and looks again later where there is more.
func (u *updates) expire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.expiring = false
	if u.evict(updateKey{}, time.Now()); len(u.made) > 0 || len(u.whole) > 0 {
		u.expireLater()
	}
}

// forget lets go of everything.
func (u *updates) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.made, u.whole, u.bytes = nil, nil, 0
}

// evict lets go of what nobody has asked for lately, and of what is too much, but for the last one.
func (u *updates) evict(last updateKey, now time.Time) {
	drop := func(key updateKey) {
		u.bytes -= u.made[key].bytes
		delete(u.made, key)
	}
	for key, m := range u.made {
		if key != last && now.Sub(m.used) > madeFor {
			drop(key)
		}
	}
	for kind, list := range u.whole {
		list = slices.DeleteFunc(list, func(w *whole) bool { return now.Sub(w.used) > madeFor })
		if u.whole[kind] = list; len(list) == 0 {
			delete(u.whole, kind)
		}
	}
	for len(u.made) > 1 && (len(u.made) > maxMade || u.bytes > maxMadeBytes) {
		var oldest updateKey
		found := false
		for key, m := range u.made {
			if key != last && (!found || m.used.Before(u.made[oldest].used)) {
				oldest, found = key, true
			}
		}
		drop(oldest)
	}
}

// mayShrink reports whether a node that runs a revision may lose most of its routes by going to target. Each revision
// on the way was judged when it was committed: either it did not take most routes away, or it said that this is meant.
// So several may do together what the last one alone did not ask for. Of another epoch's revision nothing is known, and
// nothing was judged against it: one of this epoch has to have said so. Whoever makes an older revision a node's target
// means what it had.
func mayShrink(epoch string, revision uint32, target *catalog.Version) bool {
	switch {
	case target.AllowShrink:
		return true
	case revision == 0: // it has nothing to lose
		return false
	case epoch == target.Epoch:
		return revision+1 != target.Revision // back is a way that nothing was judged on
	}
	return target.AllowedShrink > 0
}

// between returns the chunks of the delta from base to target, or of the full snapshot when base is nil, without the
// kinds that are apart. aimed says that target is what the fleet wants the node to run, and not just the newest.
func (u *updates) between(base, target *catalog.Version, apart []config.Kind,
	allowShrink, aimed bool) (delivery, error) {
	key := updateKey{allowShrink: allowShrink, target: aimed}
	for _, k := range apart {
		key.apart += k.String() + " "
	}
	key.to.place = placeOf(target)
	if base != nil {
		key.from.place = placeOf(base)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.get(key, func() (delivery, error) { return makeUpdate(base, target, apart, allowShrink, aimed) })
}

func makeUpdate(base, target *catalog.Version, apart []config.Kind, allowShrink, aimed bool) (delivery, error) {
	together := without(apart)
	hash := target.Config.HashOf(together...)
	split := chunk.Splitter[*streamv1.Update]{Filler: chunk.Filler{Limit: chunkBytes}, Fresh: func() *streamv1.Update {
		m := &streamv1.Update{
			Epoch: target.Epoch, Revision: target.Revision, Hash: hash[:], RollbackOf: target.RollbackOf, AllowShrink: allowShrink,
			CommittedAt: timestamppb.New(target.CommittedAt), Target: aimed,
		}
		for _, k := range apart {
			m.Apart = append(m.Apart, k.Proto())
		}
		if base != nil {
			m.BaseRevision = base.Revision
		}
		return m
	}}
	add := func(e *config.Entry) {
		r := e.Encoded()
		m, _ := split.Room(proto.Size(r) + 8)
		m.Upserts = append(m.Upserts, r)
	}
	if base == nil {
		for _, k := range together {
			for e := range target.Config.All(k) {
				add(e)
			}
		}
	} else {
		for _, ch := range config.DiffOf(base.Config, target.Config, together...) {
			if ch.After != nil {
				add(ch.After)
				continue
			}
			ref := &streamv1.ResourceRef{Kind: ch.Kind.Proto(), Id: ch.ID()}
			m, _ := split.Room(proto.Size(ref) + 8)
			m.Removals = append(m.Removals, ref)
		}
	}
	var d delivery
	var err error
	for _, m := range split.Messages(func(m *streamv1.Update, n, of uint32) { m.Chunk, m.Chunks = n, of }) {
		if d, err = d.with(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: m}}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// without returns all kinds but some.
func without(apart []config.Kind) []config.Kind {
	return slices.DeleteFunc(config.Kinds(), func(k config.Kind) bool { return slices.Contains(apart, k) })
}

// setBetween returns the chunks that lead from the resources of a kind at base to those at target.
func (u *updates) setBetween(kind config.Kind, base, target *catalog.Version) (delivery, error) {
	key := updateKey{set: kind, from: content{place: placeOf(base)}, to: content{place: placeOf(target)}}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.get(key, func() (delivery, error) { return makeSet(kind, base, target) })
}

// wholeSet returns the chunks of all resources of a kind, and the version that they are of: it is not target where
// little has changed since another one, which does not have what the node refused. What leads from that to target comes
// next.
func (u *updates) wholeSet(kind config.Kind, target *catalog.Version,
	refused [32]byte) (delivery, *catalog.Version, error) {
	w := u.near(kind, target, refused)
	d, err := w.make() // not under mu: there may be a million resources
	if err != nil {
		return nil, nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	w.used = time.Now() // it may have taken longer than madeFor
	return d, w.version, nil
}

// near returns the whole set of a kind that serves those who are to have target's.
func (u *updates) near(kind config.Kind, target *catalog.Version, refused [32]byte) *whole {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.evict(updateKey{}, now)
	const little = 100 // of so many, one may have changed
	for _, w := range u.whole[kind] {
		if v := w.version; v.Epoch == target.Epoch && v.Config.HashOf(kind) != refused &&
			len(config.DiffOf(v.Config, target.Config, kind)) <= target.Config.Len(kind)/little {
			w.used = now
			return w
		}
	}
	w := &whole{version: target, used: now}
	w.make = sync.OnceValues(func() (delivery, error) { return makeWholeSet(kind, target) })
	if u.whole == nil {
		u.whole = map[config.Kind][]*whole{}
	}
	list := u.whole[kind]
	if len(list) == maxWhole {
		oldest := slices.MinFunc(list, func(a, b *whole) int { return a.used.Compare(b.used) })
		list = slices.DeleteFunc(list, func(w *whole) bool { return w == oldest })
	}
	u.whole[kind] = append(list, w)
	u.expireLater()
	return w
}

// heldAt returns a version of which a whole set is kept, or nil.
func (u *updates) heldAt(p place) *catalog.Version {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, list := range u.whole {
		for _, w := range list {
			if p.is(w.version.Epoch, w.version.Revision) {
				return w.version
			}
		}
	}
	return nil
}

// endpoints returns the chunks that lead from base, which the node has as the version in from, to target; from
// nothing when base is nil.
func (u *updates) endpoints(base *catalog.EndpointsVersion, from content,
	target *catalog.EndpointsVersion) (delivery, error) {
	var have endpoints.Sets
	if base == nil {
		from = content{}
	} else {
		have = base.Sets
	}
	to := content{version: target.Version, hash: target.Hash()}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.get(updateKey{from: from, to: to}, func() (delivery, error) {
		whole := &streamv1.EndpointsUpdate{Version: target.Version, BaseVersion: from.version, Hash: bytes.Clone(to.hash[:])}
		whole.Upserts, whole.Removals = endpoints.Diff(have, target.Sets)
		var d delivery
		var err error
		for _, m := range endpoints.Split(whole, chunkBytes) {
			if d, err = d.with(&streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: m}}); err != nil {
				return nil, err
			}
		}
		return d, nil
	})
}
