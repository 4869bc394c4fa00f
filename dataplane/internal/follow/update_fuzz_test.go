package follow

import (
	"encoding/binary"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// FuzzUpdates lets a control plane send anything: what is refused leaves what the node has as it was, and what is taken
// is what a node reads from its disk later.
func FuzzUpdates(f *testing.F) {
	routes, first := resources(f, "a", "b", "c", "d")
	update := func(u *streamv1.Update) *streamv1.StreamResponse {
		u.Epoch = "e"
		return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Update{Update: u}}
	}
	endpoints := func(u *streamv1.EndpointsUpdate) *streamv1.StreamResponse {
		u.Chunk, u.Chunks = 1, 1
		return &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Endpoints{Endpoints: u}}
	}
	f.Add(joined(
		update(&streamv1.Update{Revision: 1, Chunk: 1, Chunks: 2, Upserts: routes[:2]}),
		update(&streamv1.Update{Revision: 1, Chunk: 2, Chunks: 2, Upserts: routes[2:3]}),
		update(&streamv1.Update{Revision: 2, BaseRevision: 1, Chunk: 1, Chunks: 1, Removals: []*streamv1.ResourceRef{first}, Upserts: routes[3:]}),
		endpoints(&streamv1.EndpointsUpdate{Version: 1, Upserts: []*streamv1.ServiceEndpoints{{ServiceId: "s", Endpoints: []*configv1.Endpoint{{Host: "h", Port: 1}}}}}),
		endpoints(&streamv1.EndpointsUpdate{Version: 2, BaseVersion: 1, Removals: []string{"s"}}),
	))
	f.Add(joined(update(&streamv1.Update{Revision: 1, Chunk: 1, Chunks: 1, Upserts: []*streamv1.Resource{routes[0], routes[0]}})))
	f.Add(joined(update(&streamv1.Update{Revision: 1, Chunk: 1, Chunks: 1, Upserts: routes}),
		update(&streamv1.Update{Revision: 2, BaseRevision: 1, Chunk: 1, Chunks: 1, Removals: []*streamv1.ResourceRef{first, first}}),
		update(&streamv1.Update{Revision: 2, BaseRevision: 1, Chunk: 1, Chunks: 1, Removals: []*streamv1.ResourceRef{first}, Upserts: routes[:1]})))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, now := &gather{}, newState()
		var set *building
		for _, m := range apart(data) {
			before, version, known := now.config.Hash(), now.endpointsVersion, now.endpoints.Hash()
			consumers := now.consumers.Hash()
			whole, err := g.add(m)
			if err != nil || whole == nil {
				continue
			}
			var next *state
			if u := whole.GetUpdate(); u != nil {
				u.Hash = leadsTo(now, u)
				next, err = now.next(u)
			} else if s := whole.GetSet(); s != nil {
				next, set, err = now.takeSet(set, s)
			} else {
				e := whole.GetEndpoints()
				if led, err := now.endpoints.With(e); err == nil {
					hash := led.Hash()
					e.Hash = hash[:]
				}
				next, err = now.nextEndpoints(e)
			}
			if now.config.Hash() != before || now.endpointsVersion != version ||
				now.endpoints.Hash() != known || now.consumers.Hash() != consumers {
				t.Fatal("what the node had is another now")
			}
			if err != nil || next == nil {
				continue
			}
			if next.epoch == now.epoch && next.revision < now.revision && !whole.GetUpdate().GetTarget() {
				t.Fatalf("revision %d was taken after %d", next.revision, now.revision)
			}
			kept := newState()
			for record := range next.records() {
				if u := record.GetUpdate(); u != nil {
					kept, err = kept.next(u)
				} else {
					kept, err = kept.nextEndpoints(record.GetEndpoints())
				}
				if err != nil {
					t.Fatalf("what was taken can't be read again: %v", err)
				}
			}
			var again *building
			for record := range next.consumerRecords() {
				taken, b, err := kept.takeSet(again, record.GetSet())
				if err != nil {
					t.Fatalf("consumers that were taken can't be read again: %v", err)
				}
				if again = b; taken != nil {
					kept = taken
				}
			}
			if kept.consumers.Hash() != next.consumers.Hash() || kept.consumersOf != next.consumersOf {
				t.Fatal("other consumers are read again than were taken")
			}
			if kept.config.Hash() != next.config.Hash() || kept.revision != next.revision ||
				kept.endpoints.Hash() != next.endpoints.Hash() {
				t.Fatal("another state is read again than was taken")
			}
			now = next
		}
	})
}

// leadsTo returns the hash that an update ought to say, or what it says where it can't be taken.
func leadsTo(s *state, u *streamv1.Update) []byte {
	base := s.config
	if u.GetBaseRevision() == 0 {
		base = config.Empty()
	}
	entries, err := decode(u.GetUpserts())
	if err != nil {
		return u.GetHash()
	}
	next, err := base.WithEntries(entries, u.GetRemovals())
	if err != nil {
		return u.GetHash()
	}
	hash := next.Hash()
	if len(u.GetApart()) > 0 {
		hash = next.HashOf(config.Together()...)
	}
	return hash[:]
}

// resources returns routes as they are sent, and what removes the first of them.
func resources(f *testing.F, names ...string) (all []*streamv1.Resource, first *streamv1.ResourceRef) {
	f.Helper()
	var edits []config.Edit
	for _, name := range names {
		edits = append(edits, config.Edit{Kind: config.Route, Put: &configv1.Route{Name: name, Path: "/" + name, DirectResponse: &configv1.DirectResponse{Body: name}}})
	}
	n := 0
	plan, err := config.Empty().Plan(edits, config.PlanOptions{Now: time.Unix(1, 0), NewID: func() string { n++; return names[n-1] }})
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		all = append(all, plan.Config.ByName(config.Route, name).Encoded())
	}
	return all, &streamv1.ResourceRef{Kind: all[0].GetKind(), Id: all[0].GetId()}
}

// joined puts messages behind each other, each after its length.
func joined(messages ...*streamv1.StreamResponse) (data []byte) {
	for _, m := range messages {
		b, _ := proto.Marshal(m)
		data = append(binary.BigEndian.AppendUint16(data, uint16(len(b))), b...)
	}
	return data
}

// apart takes them apart again, and leaves out what is no message.
func apart(data []byte) (messages []*streamv1.StreamResponse) {
	for len(data) >= 2 {
		n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
		m := &streamv1.StreamResponse{}
		if proto.Unmarshal(data[2:2+n], m) == nil {
			messages = append(messages, m)
		}
		data = data[2+n:]
	}
	return messages
}
