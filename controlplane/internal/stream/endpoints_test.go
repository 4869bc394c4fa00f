package stream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/endpoints"
)

// holder is a node of which only the endpoints are looked at.
type holder struct {
	node
	version uint64
	has     endpoints.Sets
	largest int // message
}

// meet opens a stream that says what the node has.
func (h *holder) meet(p *plane) {
	h.t.Helper()
	hash := h.has.Hash()
	h.connectAs(p, token, &streamv1.Hello{EndpointsVersion: h.version, EndpointsHash: hash[:]})
}

// take receives a whole update of endpoints, applies and answers it, and returns it.
func (h *holder) take() *streamv1.EndpointsUpdate {
	h.t.Helper()
	var whole *streamv1.EndpointsUpdate
	for {
		m, err := h.stream.Recv()
		if err != nil {
			h.t.Fatal(err)
		}
		h.largest = max(h.largest, proto.Size(m))
		u := m.GetEndpoints()
		switch {
		case u == nil:
			continue
		case whole == nil:
			whole = u
		default:
			whole.Upserts, whole.Removals = append(whole.Upserts, u.GetUpserts()...), append(whole.Removals, u.GetRemovals()...)
		}
		if u.GetChunk() == u.GetChunks() {
			break
		}
	}
	if whole.GetBaseVersion() != 0 && whole.GetBaseVersion() != h.version {
		h.t.Fatalf("a delta from version %d, but the node has %d", whole.GetBaseVersion(), h.version)
	}
	next, err := h.has.With(whole)
	if hash := next.Hash(); err != nil || string(hash[:]) != string(whole.GetHash()) {
		h.t.Fatalf("version %d has another content: %v", whole.GetVersion(), err)
	}
	h.has, h.version = next, whole.GetVersion()
	return whole
}

func (h *holder) acknowledge() {
	h.t.Helper()
	r := &streamv1.Result{Outcome: streamv1.Result_OUTCOME_APPLIED, EndpointsVersion: h.version}
	h.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Result{Result: r}})
}

// instances returns n of a service; odd is the weight of the one that differs from the others, which are the same
// messages in every list of one function.
func instances(n int) func(n int, odd uint32) []*configv1.Endpoint {
	list := make([]*configv1.Endpoint, n)
	for i := range list {
		list[i] = &configv1.Endpoint{Host: fmt.Sprintf("10.0.%d.%d", i/250, i%250), Port: 8080,
			Labels: map[string]string{"zone": "a", "build": "1234567890"}}
	}
	return func(n int, odd uint32) []*configv1.Endpoint {
		other := slices.Clone(list[:n])
		other[n/2] = proto.CloneOf(list[n/2])
		other[n/2].Weight = &odd
		return other
	}
}

func TestEndpointsTravelApart(t *testing.T) {
	p := newPlane(t)
	v := p.commit(route("a"))
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	defer n.close()
	n.follow(v.Revision)
	p.catalog.SetEndpoints("s1", []*configv1.Endpoint{{Host: "b", Port: 1}, {Host: "a", Port: 1}})
	m, err := n.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	e := m.GetEndpoints()
	if len(e.GetUpserts()) != 1 || e.GetBaseVersion() != 0 || e.GetUpserts()[0].GetEndpoints()[0].GetHost() != "a" {
		t.Fatalf("got %v", m)
	}
	n.send(&streamv1.StreamRequest{Message: &streamv1.StreamRequest_Result{Result: &streamv1.Result{
		Outcome: streamv1.Result_OUTCOME_APPLIED, EndpointsVersion: e.GetVersion()}}})
	p.catalog.RemoveEndpoints("s1")
	if m, err = n.stream.Recv(); err != nil || m.GetEndpoints().GetBaseVersion() != e.GetVersion() ||
		len(m.GetEndpoints().GetRemovals()) != 1 {
		t.Fatalf("got %v, %v", m, err)
	}
}

func TestLargeSetsComeInChunks(t *testing.T) {
	p := newPlane(t)
	large := instances(300)(300, 1)
	for _, e := range large {
		e.Labels = map[string]string{"a": strings.Repeat("x", 60<<10)}
	}
	p.catalog.SetEndpoints("s", large)
	h := &holder{node: node{t: t, id: "n1"}}
	h.meet(p)
	defer h.close()
	h.take()
	if got := len(h.has.Services["s"].GetEndpoints()); got != 300 || h.largest > 2*chunkBytes {
		t.Errorf("%d endpoints, in messages of up to %d bytes", got, h.largest)
	}
}

func TestOnlyChangesAreSent(t *testing.T) {
	const n = 5000
	instances := instances(n)
	p := newPlane(t)
	p.catalog.SetEndpoints("s", instances(n, 1))
	h := &holder{node: node{t: t, id: "n1"}}
	h.meet(p)
	if u := h.take(); u.GetBaseVersion() != 0 || h.largest < 40*n {
		t.Errorf("first, a delta from %d of %d bytes", u.GetBaseVersion(), h.largest)
	}
	small := func(what string, u *streamv1.EndpointsUpdate, limit int) {
		t.Helper()
		if size := proto.Size(u); u.GetBaseVersion() == 0 || size > limit || h.has.Hash() != p.catalog.Endpoints().Hash() {
			t.Errorf("%s: a delta from %d of %d bytes", what, u.GetBaseVersion(), size)
		}
	}
	p.catalog.SetEndpoints("s", instances(n, 2)) // before the answer
	for i := range uint32(20) {
		p.catalog.SetEndpoints("s", instances(n-int(i), 3+i))
	}
	h.acknowledge()
	small("a node that was slow", h.take(), 4000)
	h.acknowledge()
	p.catalog.SetEndpoints("s", instances(n, 9))
	small("the next change", h.take(), 4000)
	h.close() // without an answer
	p.catalog.SetEndpoints("s", instances(n, 10))
	h.meet(p)
	small("a node that comes back", h.take(), 300)
	h.acknowledge()
	h.close()

	p = newPlane(t) // another process, which knows the same
	p.catalog.SetEndpoints("s", instances(n, 10))
	h.meet(p)
	small("another control plane", h.take(), 100)
	h.acknowledge()
	p.catalog.SetEndpoints("s", instances(n, 11))
	small("and its next change", h.take(), 300)
	h.acknowledge()
	p.catalog.ChangeEndpoints(map[string][]*configv1.Endpoint{"t": {}}, []string{"s"})
	u := h.take()
	small("a service that is gone", u, 100)
	if len(u.GetRemovals()) != 1 || len(u.GetUpserts()) != 1 {
		t.Errorf("got %v", u)
	}
	h.close()

	h.has, _, _ = h.has.Put([]*streamv1.ServiceEndpoints{{ServiceId: "other"}}, nil) // what nobody knows
	h.meet(p)
	defer h.close()
	if u := h.take(); u.GetBaseVersion() != 0 {
		t.Errorf("a node with unknown endpoints got a delta from %d", u.GetBaseVersion())
	}
}

// TestKeptEndpointsAreBounded: what nodes have is forgotten when it is too much, and they get everything.
func TestKeptEndpointsAreBounded(t *testing.T) {
	p := newPlane(t)
	p.catalog.SetEndpoints("s", instances(10)(10, 1))
	h := &holder{node: node{t: t, id: "n1"}}
	h.meet(p)
	h.take()
	h.close()
	for i := range uint32(5) {
		list := instances(300)(300, i)
		for _, e := range list {
			e.Labels = map[string]string{"a": fmt.Sprint(i, strings.Repeat("x", 30<<10))}
		}
		p.catalog.SetEndpoints("s", list)
	}
	h.meet(p)
	defer h.close()
	if u := h.take(); u.GetBaseVersion() != 0 {
		t.Errorf("5 sets of 9 MB later there is still a delta from %d", u.GetBaseVersion())
	}
}

// away is a store of which nothing new can be read while it is gone.
type away struct {
	store.Store
	gone atomic.Bool
}

// Since implements store.Store.
func (a *away) Since(ctx context.Context, after store.Head, limit int) ([]store.Revision, error) {
	if a.gone.Load() {
		return nil, store.ErrUnavailable
	}
	return a.Store.Since(ctx, after, limit)
}

// TestEndpointsNeedNoTarget: what discovery finds reaches a node whose target can't be had, or is older than what it
// runs.
func TestEndpointsNeedNoTarget(t *testing.T) {
	for _, what := range []string{"a control plane that is behind", "a target that can't be had"} {
		t.Run(what, func(t *testing.T) {
			p := newPlane(t)
			p.commit(route("a"))
			a := &away{Store: p.store}
			other := startPlane(t, a)
			h := &holder{node: node{t: t, id: "n1"}}
			if what == "a control plane that is behind" {
				a.gone.Store(true)
				v := p.commit(route("b"))
				h.epoch, h.revision = v.Epoch, v.Revision
			} else {
				other.fleet.Aim("n1", target(other, 99))
			}
			h.meet(other)
			defer h.close()
			late := time.AfterFunc(10*time.Second, h.close) // which ends its wait
			defer late.Stop()
			for i := range uint32(2) {
				other.catalog.SetEndpoints("s", instances(10)(10, i+2))
				h.take()
				h.acknowledge()
			}
			if v := other.catalog.Current(); v.Revision != 1 {
				t.Errorf("the control plane has come to revision %d", v.Revision)
			}
		})
	}
}
