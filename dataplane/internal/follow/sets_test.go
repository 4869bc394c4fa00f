package follow

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

func consumerPut(name string, groups ...string) config.Edit {
	return config.Edit{Kind: config.Consumer, Put: &configv1.Consumer{Name: name, Groups: groups}}
}

// consumers returns what leads from the consumers of one configuration to those of another, in chunks of one resource;
// from nothing where from is nil.
func consumers(from, to *config.Config, revision uint32) []*streamv1.StreamResponse {
	hash := to.HashOf(config.Consumer)
	head := &streamv1.SetUpdate{Kind: streamv1.Kind_KIND_CONSUMER, Epoch: "e", Revision: revision, Hash: hash[:]}
	if from != nil {
		base := from.HashOf(config.Consumer)
		head.BaseHash = base[:]
	} else {
		from = config.Empty()
	}
	parts := []*streamv1.SetUpdate{}
	for _, ch := range config.DiffOf(from, to, config.Consumer) {
		u := proto.CloneOf(head)
		if ch.After == nil {
			u.Removals = []string{ch.ID()}
		} else {
			u.Upserts = []*streamv1.Resource{ch.After.Encoded()}
		}
		parts = append(parts, u)
	}
	if len(parts) == 0 {
		parts = append(parts, head)
	}
	out := make([]*streamv1.StreamResponse, len(parts))
	for i, u := range parts {
		u.Chunk, u.Chunks = uint32(i+1), uint32(len(parts))
		out[i] = &streamv1.StreamResponse{Message: &streamv1.StreamResponse_Set{Set: u}}
	}
	return out
}

// edited plans edits.
func edited(t interface{ Fatal(...any) }, c *config.Config, edits ...config.Edit) *config.Config {
	plan, err := c.Plan(edits, config.PlanOptions{Now: time.Unix(1, 0), AllowShrink: true, NewID: newID})
	if err != nil {
		t.Fatal(err)
	}
	return plan.Config
}

// takeAll takes messages and returns the answer to the last one.
func takeAll(t *testing.T, f *Follower, messages []*streamv1.StreamResponse) (r *streamv1.Result) {
	t.Helper()
	for i, m := range messages {
		var err error
		if r, err = f.take(m); err != nil || (r == nil) != (i < len(messages)-1) {
			t.Fatalf("chunk %d: %v, %v", i+1, r, err)
		}
	}
	return r
}

// TestConsumersComeApart: they are applied when the last chunk is there, and without the configuration; a change is
// taken from what the node has, and all of it is there after a restart.
func TestConsumersComeApart(t *testing.T) {
	dir := t.TempDir()
	f, n := follower(t, dir)
	first := edited(t, config.Empty(), consumerPut("a", "g"), consumerPut("b"), consumerPut("c"))
	whole := consumers(nil, first, 1)
	for i, m := range whole {
		if n.clients != nil && n.clients.Len() > 0 {
			t.Fatalf("applied before chunk %d", i+1)
		}
		r, err := f.take(m)
		if err != nil || (r == nil) != (i < len(whole)-1) {
			t.Fatalf("chunk %d: %v, %v", i+1, r, err)
		}
		if r != nil {
			applied(t, r)
			hash := first.HashOf(config.Consumer)
			if string(r.GetHash()) != string(hash[:]) || r.GetSet() != streamv1.Kind_KIND_CONSUMER {
				t.Errorf("answered %v", r)
			}
		}
	}
	if c := n.clients.ByName("a"); c == nil || len(c.Groups()) != 1 || n.clients.ByID(c.ID()) != c {
		t.Errorf("a is %v", c)
	}
	src := &source{t: t, config: config.Empty(), apart: true}
	applied(t, take(t, f, src.change(true, route("r"))))
	second := edited(t, first, consumerPut("a", "h"), config.Edit{Kind: config.Consumer, Delete: "b"}, consumerPut("d"))
	version := n.version
	applied(t, takeAll(t, f, consumers(first, second, 2)))
	if n.version != version {
		t.Error("a change of consumers was applied as one of the configuration")
	}
	if n.clients.ByName("b") != nil || n.clients.ByName("d") == nil || n.clients.ByName("a").Groups()[0] != "h" {
		t.Error("another content")
	}
	if _, err := f.take(consumers(first, second, 2)[0]); !errors.Is(err, errStale) || !f.freshSets || f.fresh {
		t.Errorf("a change from another set: %v", err)
	}
	if h := f.hello(); len(h.GetSets()) != 1 || len(h.GetSets()[0].GetHash()) != 0 || len(h.GetHash()) == 0 {
		t.Errorf("hello asks for all consumers, and nothing else: %v", h)
	}
	f.disk.close()
	again, n := follower(t, dir)
	if n.clients.Hash() != second.HashOf(config.Consumer) || n.version.Config.ByName(config.Route, "r") == nil {
		t.Error("after a restart there is another content")
	}
	hash := second.HashOf(config.Consumer)
	if s := again.hello().GetSets()[0]; s.GetRevision() != 2 || s.GetEpoch() != "e" ||
		string(s.GetHash()) != string(hash[:]) {
		t.Errorf("hello says %v", s)
	}
	// All of it may be less, and what was begun before is not part of it.
	third := edited(t, config.Empty(), consumerPut("x"))
	if r, err := again.take(consumers(nil, second, 2)[0]); r != nil || err != nil {
		t.Fatal(r, err)
	}
	applied(t, takeAll(t, again, consumers(nil, third, 3)))
	if n.clients.Len() != 1 {
		t.Errorf("%d consumers", n.clients.Len())
	}
	applied(t, takeAll(t, again, consumers(third, config.Empty(), 4)))
	if n.clients.Len() != 0 || n.clients.Hash() != config.Empty().Hash() {
		t.Errorf("%d consumers are left", n.clients.Len())
	}
}

// TestConsumersThatCanNotBeRead: the node keeps those that it had, and says so.
func TestConsumersThatCanNotBeRead(t *testing.T) {
	f, n := follower(t, t.TempDir())
	first := edited(t, config.Empty(), consumerPut("a"))
	applied(t, takeAll(t, f, consumers(nil, first, 1)))
	spoilt := consumers(first, edited(t, first, consumerPut("b"), consumerPut("c")), 2)
	spoilt[0] = proto.CloneOf(spoilt[0])
	spoilt[0].GetSet().Upserts[0].Body[2] ^= 1
	r := takeAll(t, f, spoilt)
	if r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED || len(r.GetProblems()) != 1 ||
		n.clients.Len() != 1 || len(f.Degraded()) != 1 {
		t.Errorf("answered %v, %d consumers, degraded %v", r, n.clients.Len(), f.Degraded())
	}
	applied(t, takeAll(t, f, consumers(first, edited(t, first, consumerPut("b")), 3)))
	if len(f.Degraded()) != 0 {
		t.Errorf("degraded %v", f.Degraded())
	}
	wrong := consumers(nil, first, 4)
	wrong[0].GetSet().Hash[0] ^= 1
	if r := takeAll(t, f, wrong); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("all of them with another hash: %v", r)
	}
	other := consumers(nil, first, 4)
	other[0].GetSet().Kind = streamv1.Kind_KIND_ROUTE
	if r := takeAll(t, f, other); r.GetOutcome() != streamv1.Result_OUTCOME_REJECTED {
		t.Errorf("routes as a set: %v", r)
	}
}

// TestConsumersOfALaterBuild: fields that this build does not know are part of the hash, and are told.
func TestConsumersOfALaterBuild(t *testing.T) {
	dir := t.TempDir()
	f, _ := follower(t, dir)
	e := configtest.Newer(t, &configv1.Consumer{Id: "1", Name: "a", Labels: map[string]string{"x": "1", "y": "2"}})
	c, err := config.Empty().With([]config.Change{{Kind: config.Consumer, After: e}})
	if err != nil {
		t.Fatal(err)
	}
	r := takeAll(t, f, consumers(nil, c, 1))
	if r.GetOutcome() != streamv1.Result_OUTCOME_DEGRADED || r.GetProblems()[0].GetKind() != "consumer" {
		t.Errorf("answered %v", r)
	}
	src := &source{t: t, config: config.Empty(), apart: true}
	take(t, f, src.change(true, route("r")))
	f.disk.close()
	f, n := follower(t, dir)
	if n.clients.Hash() != c.Hash() || len(f.Degraded()) != 1 {
		t.Errorf("after a restart: %v", f.Degraded())
	}
	if r := takeAll(t, f, consumers(c, config.Empty(), 2)); r.GetOutcome() != streamv1.Result_OUTCOME_APPLIED {
		t.Errorf("without it: %v", r)
	}
}

// TestConsumersWithoutTheirSnapshot are not what the node has later, when the control plane has told it that there are
// none.
func TestConsumersWithoutTheirSnapshot(t *testing.T) {
	dir := t.TempDir()
	f, _ := follower(t, dir)
	src := &source{t: t, config: config.Empty(), apart: true}
	applied(t, take(t, f, src.change(true, route("r"))))
	applied(t, takeAll(t, f, consumers(nil, edited(t, config.Empty(), consumerPut("a")), 1)))
	f.disk.close()
	write(t, filepath.Join(dir, "snapshot.pb"), "damaged")
	f, _ = follower(t, dir)
	hash := config.Empty().HashOf(config.Consumer)
	if s := f.hello().GetSets()[0]; string(s.GetHash()) != string(hash[:]) {
		t.Errorf("hello says %v", s)
	}
	applied(t, take(t, f, src.change(true, route("s")))) // nothing of consumers: it is as the node says
	f.savedAt = time.Time{}
	f.saveAgain()
	f.disk.close()
	if _, n := follower(t, dir); n.clients.Len() != 0 {
		t.Errorf("%d consumers are there again", n.clients.Len())
	}
}
