package endpoints

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

func draw(t *rapid.T) []*streamv1.ServiceEndpoints {
	var sets []*streamv1.ServiceEndpoints
	for i := range 3 {
		if rapid.IntRange(0, 3).Draw(t, "without") == 0 {
			continue
		}
		set := &streamv1.ServiceEndpoints{ServiceId: fmt.Sprint("s", i)}
		for j := range 12 {
			if rapid.Bool().Draw(t, "there") {
				e := &configv1.Endpoint{Host: fmt.Sprint("h", 11-j), Port: rapid.Uint32Range(1, 2).Draw(t, "port")}
				if rapid.Bool().Draw(t, "labels") {
					e.Labels = map[string]string{"a": "1", "b": strings.Repeat("x", rapid.IntRange(0, 300).Draw(t, "length"))}
				}
				set.Endpoints = append(set.Endpoints, e)
			}
		}
		sets = append(sets, set)
	}
	return sets
}

// TestDeltasLeadToTheSame: what is sent, in chunks of any size, leads from any sets to any others, and the hash tells
// them apart.
func TestDeltasLeadToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, _, _ := Sets{}.Put(draw(t), nil)
		to, changed, _ := from.Put(draw(t), rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"s0", "s1", "s2", "s3"}),
			0, 2, rapid.ID).Draw(t, "forget"))
		if same := equal(from, to); same == changed || same != (from.Hash() == to.Hash()) {
			t.Fatalf("changed: %t, the same: %t, the same hash: %t", changed, same, from.Hash() == to.Hash())
		}
		hash := to.Hash()
		u := &streamv1.EndpointsUpdate{Version: 2, BaseVersion: 1, Hash: hash[:]}
		base := from
		if rapid.Bool().Draw(t, "full") {
			u.BaseVersion, base = 0, Sets{}
		}
		u.Upserts, u.Removals = Diff(base, to)
		limit := rapid.IntRange(1, 1000).Draw(t, "limit")
		whole := &streamv1.EndpointsUpdate{Version: 2, BaseVersion: u.GetBaseVersion(), Hash: hash[:]}
		for _, m := range Split(u, limit) {
			if n := proto.Size(m) - 50; n > limit+400 { // the head, and an endpoint that is larger than the limit
				t.Fatalf("a chunk of up to %d bytes has %d", limit, n)
			}
			raw, _ := proto.Marshal(m) // the node's own copy
			m = new(streamv1.EndpointsUpdate)
			_ = proto.Unmarshal(raw, m)
			whole.Upserts, whole.Removals = append(whole.Upserts, m.GetUpserts()...), append(whole.Removals, m.GetRemovals()...)
		}
		before := from.Hash()
		got, err := from.With(whole)
		if err != nil || !equal(got, to) || got.Hash() != hash || from.Hash() != before {
			t.Fatalf("%v: from\n%v\nto\n%v\nnot\n%v\nby\n%v", err, from.Services, got.Services, to.Services, whole)
		}
		if again, _ := (Sets{}).With(&streamv1.EndpointsUpdate{Upserts: values(to)}); again.Hash() != hash {
			t.Fatal("the hash depends on the way")
		}
	})
}

func values(s Sets) (list []*streamv1.ServiceEndpoints) {
	for _, set := range s.Services {
		list = append(list, set)
	}
	return list
}

func equal(a, b Sets) bool {
	if len(a.Services) != len(b.Services) {
		return false
	}
	for id, set := range a.Services {
		if b.Services[id] == nil || !proto.Equal(set, b.Services[id]) {
			return false
		}
	}
	return true
}

func TestChangeOfOneOfManyIsSmall(t *testing.T) {
	many := func(weight uint32) []*streamv1.ServiceEndpoints {
		set := &streamv1.ServiceEndpoints{ServiceId: "s"}
		for i := range 5000 {
			set.Endpoints = append(set.Endpoints, &configv1.Endpoint{Host: fmt.Sprintf("10.0.%d.%d", i/250, i%250),
				Port: 8080, Weight: proto.Uint32(1), Labels: map[string]string{"zone": "a"}})
		}
		set.GetEndpoints()[77].Weight = &weight
		return []*streamv1.ServiceEndpoints{set}
	}
	a, _, _ := Sets{}.Put(many(1), nil)
	b, _, _ := a.Put(many(2), nil)
	upserts, removals := Diff(a, b)
	u := &streamv1.EndpointsUpdate{Upserts: upserts, Removals: removals}
	if n := proto.Size(u); n > 200 {
		t.Errorf("the change has %d bytes", n)
	}
}

func TestUpdatesThatDoNotFit(t *testing.T) {
	one := []*configv1.Endpoint{{Host: "a", Port: 1}}
	have, _, _ := Sets{}.Put([]*streamv1.ServiceEndpoints{{ServiceId: "s", Endpoints: one}}, nil)
	other := have.Hash()
	for name, u := range map[string]*streamv1.EndpointsUpdate{
		"a change of a service that has none": {Upserts: []*streamv1.ServiceEndpoints{{ServiceId: "t", Delta: true,
			Endpoints: one}}},
		"the removal of a service that is not": {Removals: []string{"t"}},
		"another content than it says": {Hash: other[:], Upserts: []*streamv1.ServiceEndpoints{{ServiceId: "s",
			Delta: true, Removals: []*streamv1.EndpointRef{{Host: "a", Port: 1}}}}},
	} {
		u.BaseVersion, u.Version = 1, 2
		if next, err := have.With(u); !errors.Is(err, ErrOther) || next.Hash() != have.Hash() {
			t.Errorf("%s: %v", name, err)
		}
	}
}
