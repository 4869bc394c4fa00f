// Package endpoints knows the discovered endpoints of services as both planes hold them: immutable sets by service,
// what leads from some to others, and a hash that tells whether two processes know the same. It does not know where
// they come from.
package endpoints

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/multiset"
)

// Sets are the endpoints of services. The zero value has none. A value is immutable, and so are the messages in it.
type Sets struct {
	// Services has the sets by service id, each by host and port. A set may be empty, which is another thing than none.
	Services map[string]*streamv1.ServiceEndpoints

	hash multiset.Hash // of the hashes of all endpoints and services
}

// Hash identifies the content as config.Config.Hash does.
func (s Sets) Hash() [32]byte { return s.hash.Sum() }

// hashOf returns the hash of a service, or with an endpoint of that endpoint.
func hashOf(service string, e *configv1.Endpoint) [32]byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 256), uint32(len(service)))
	b = append(b, service...)
	if e != nil {
		b, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(append(b, 1), e)
	}
	return sha256.Sum256(b)
}

// Compare orders endpoints by host and port, which tell those of one service apart.
func Compare(a, b *configv1.Endpoint) int {
	return cmp.Or(cmp.Compare(a.GetHost(), b.GetHost()), cmp.Compare(a.GetPort(), b.GetPort()))
}

// walk calls changed for what differs between two lists by Compare; a nil side is absent.
func walk(a, b []*configv1.Endpoint, changed func(before, after *configv1.Endpoint)) {
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = Compare(a[0], b[0])
		}
		switch {
		case order < 0:
			changed(a[0], nil)
			a = a[1:]
		case order > 0:
			changed(nil, b[0])
			b = b[1:]
		default:
			if a[0] != b[0] && !proto.Equal(a[0], b[0]) {
				changed(a[0], b[0])
			}
			a, b = a[1:], b[1:]
		}
	}
}

// Diff returns what leads from one to another, as EndpointsUpdate has it: of each service the change, where that is
// less than the set.
func Diff(from, to Sets) (upserts []*streamv1.ServiceEndpoints, removals []string) {
	for _, id := range slices.Sorted(maps.Keys(to.Services)) {
		a, b := from.Services[id], to.Services[id]
		if a == b {
			continue
		}
		if a == nil {
			upserts = append(upserts, b)
			continue
		}
		d := &streamv1.ServiceEndpoints{ServiceId: id, Delta: true}
		walk(a.GetEndpoints(), b.GetEndpoints(), func(before, after *configv1.Endpoint) {
			if after != nil {
				d.Endpoints = append(d.Endpoints, after)
			} else {
				d.Removals = append(d.Removals, &streamv1.EndpointRef{Host: before.GetHost(), Port: before.GetPort()})
			}
		})
		switch n := len(d.GetEndpoints()) + len(d.GetRemovals()); {
		case n > len(b.GetEndpoints()):
			upserts = append(upserts, b)
		case n > 0:
			upserts = append(upserts, d)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(from.Services)) {
		if to.Services[id] == nil {
			removals = append(removals, id)
		}
	}
	return upserts, removals
}

// Put returns the sets with these in place of what the services had, and without the services to forget. What is the
// same already stays as it is; changed reports whether anything differs, and left how many bytes of messages, about,
// s alone still holds. It takes the messages over and sorts their endpoints.
func (s Sets) Put(sets []*streamv1.ServiceEndpoints, forget []string) (next Sets, changed bool, left int) {
	next = Sets{Services: maps.Clone(s.Services), hash: s.hash}
	if next.Services == nil {
		next.Services = map[string]*streamv1.ServiceEndpoints{}
	}
	take := func(id string, set *streamv1.ServiceEndpoints) {
		c, l := next.replace(id, set)
		changed, left = changed || c, left+l
	}
	for _, id := range forget {
		take(id, nil)
	}
	for _, set := range sets {
		slices.SortFunc(set.GetEndpoints(), Compare)
		take(set.GetServiceId(), set)
	}
	return next, changed, left
}

// replace puts a set in the place of a service's, or removes that, in a value that nobody else has yet.
func (s *Sets) replace(id string, set *streamv1.ServiceEndpoints) (changed bool, left int) {
	old := s.Services[id]
	switch {
	case old == nil && set == nil:
		return false, 0
	case old == nil:
		s.hash.Add(hashOf(id, nil))
		changed = true
	case set == nil:
		s.hash.Remove(hashOf(id, nil))
		changed = true
	}
	walk(old.GetEndpoints(), set.GetEndpoints(), func(before, after *configv1.Endpoint) {
		changed = true
		if before != nil {
			s.hash.Remove(hashOf(id, before))
			left += proto.Size(before)
		}
		if after != nil {
			s.hash.Add(hashOf(id, after))
		}
	})
	if !changed {
		return false, 0
	}
	if set == nil {
		delete(s.Services, id)
	} else {
		s.Services[id] = set
	}
	return true, left + pointerBytes*len(old.GetEndpoints())
}

const pointerBytes = 8

// ErrOther says that an update does not fit what it is applied to, or leads to something else than it says.
var ErrOther = errors.New("the update of endpoints is for others than are there")

// With applies a whole update: to s, or to nothing where it is a full one. A full one is taken whatever hash it says:
// another build may know more of an endpoint than this one.
func (s Sets) With(u *streamv1.EndpointsUpdate) (Sets, error) {
	next := Sets{Services: map[string]*streamv1.ServiceEndpoints{}}
	if u.GetBaseVersion() != 0 {
		next = Sets{Services: maps.Clone(s.Services), hash: s.hash}
		if next.Services == nil {
			next.Services = map[string]*streamv1.ServiceEndpoints{}
		}
	}
	for _, id := range u.GetRemovals() {
		if removed, _ := next.replace(id, nil); !removed {
			return s, fmt.Errorf("%w: service %s, which is to be removed, has none", ErrOther, id)
		}
	}
	for rest := u.GetUpserts(); len(rest) > 0; {
		n := 1 // the parts of one set are taken together
		for n < len(rest) && rest[n].GetServiceId() == rest[0].GetServiceId() {
			n++
		}
		set, err := join(next.Services[rest[0].GetServiceId()], rest[:n])
		if err != nil {
			return s, err
		}
		next.replace(set.GetServiceId(), set)
		rest = rest[n:]
	}
	if h := next.Hash(); u.GetBaseVersion() != 0 && len(u.GetHash()) > 0 && string(u.GetHash()) != string(h[:]) {
		return s, fmt.Errorf("%w: it leads to another content than it says", ErrOther)
	}
	return next, nil
}

// join applies the parts of an update that are of one service.
func join(set *streamv1.ServiceEndpoints, parts []*streamv1.ServiceEndpoints) (*streamv1.ServiceEndpoints, error) {
	type key struct {
		host string
		port uint32
	}
	id := parts[0].GetServiceId()
	changed := map[key]*configv1.Endpoint{} // nil: removed
	for _, p := range parts {
		switch {
		case !p.GetDelta():
			set = &streamv1.ServiceEndpoints{ServiceId: id}
			clear(changed)
		case set == nil:
			return nil, fmt.Errorf("%w: service %s, which is to change, has none", ErrOther, id)
		}
		for _, e := range p.GetEndpoints() {
			changed[key{e.GetHost(), e.GetPort()}] = e
		}
		for _, r := range p.GetRemovals() {
			changed[key{r.GetHost(), r.GetPort()}] = nil
		}
	}
	list := make([]*configv1.Endpoint, 0, len(set.GetEndpoints())+len(changed))
	for _, e := range set.GetEndpoints() {
		if _, other := changed[key{e.GetHost(), e.GetPort()}]; !other {
			list = append(list, e)
		}
	}
	for _, e := range changed {
		if e != nil {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, Compare)
	return &streamv1.ServiceEndpoints{ServiceId: id, Endpoints: list}, nil
}
