package runtime

import (
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// counter is live state that counts requests, over all snapshots.
type counter struct {
	requests int
	closed   *atomic.Int64
}

func (c *counter) Close() error {
	c.closed.Add(1)
	return nil
}

// counting is a step that has live state.
type counting struct{ ref *live.Ref[*counter] }

func (s *counting) Request(*exchange.Exchange) exchange.Verdict {
	s.ref.Value().requests++
	return exchange.Continue
}

func (*counting) Response(*exchange.Exchange) {}

// countingBy makes steps whose live state has a key.
func (c *changing) countingBy(key *string, closed *atomic.Int64) {
	c.node.newStep = func(_ string, _ proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
		ref, err := live.Keep(env.Live, [2]string{env.Name, *key}, func() (*counter, error) {
			return &counter{closed: closed}, nil
		})
		return &counting{ref}, err
	}
}

// request takes a request through the route's pipelines, and returns its exchange's end, which holds the snapshot.
func (c *changing) request() (end func()) {
	c.t.Helper()
	s := c.node.Snapshot()
	chain := s.Table.ByID(c.config.ByName(config.Route, "r").ID()).Value.(*Route).Backends[0].Chain
	x, at := &exchange.Exchange{}, &pipeline.Progress{}
	if chain.Request(x, at) != exchange.Continue {
		c.t.Fatalf("the request was answered by %d %s", x.Response.Status, x.Response.Message)
	}
	return func() {
		chain.Response(x, at)
		chain.End(x, at, &pipeline.Outcome{})
		runtime.KeepAlive(s)
	}
}

// TestLiveStateOutlivesSnapshots: a middleware has the same live state from one snapshot to the next, for as long as
// its key stays; what no exchange can use any more is closed, once.
func TestLiveStateOutlivesSnapshots(t *testing.T) {
	var closed atomic.Int64
	key := "one"
	c := newChanging(t)
	c.countingBy(&key, &closed)
	front := put(&configv1.Pipeline{Name: "front", MiddlewareIds: []string{"stamp"}})
	route := func(path, pipeline string) config.Edit {
		return put(&configv1.Route{Name: "r", Path: path, PipelineId: pipeline, DirectResponse: &configv1.DirectResponse{}})
	}
	c.apply(stamp(t, "a"), front, route("/a", "front"))
	requests := func() int {
		p := c.node.made.pipelines[c.config.ByName(config.Pipeline, "front").ID()].thing
		return p.Steps[0].Step.(*counting).ref.Value().requests
	}
	c.request()()
	c.apply(route("/b", "front"))
	c.request()()
	c.apply(stamp(t, "b"))
	c.request()()
	c.apply(put(&configv1.Pipeline{Name: "front", MiddlewareIds: []string{"stamp"}, TimeoutMs: 9}))
	if n := requests(); n != 3 || c.node.live.Len() != 1 {
		t.Errorf("after three changes it has counted %d of 3 requests, %d things are kept", n, c.node.live.Len())
	}
	slow := c.request()
	key = "two"
	c.apply(stamp(t, "c")) // what matters to what is kept
	if n := requests(); n != 0 {
		t.Errorf("with another key it has counted %d requests", n)
	}
	for range 3 {
		runtime.GC()
	}
	if n := closed.Load(); n != 0 {
		t.Fatalf("closed %d times while an exchange uses it", n)
	}
	slow()
	collected(t, "the first is closed", func() bool { return closed.Load() == 1 && c.node.live.Len() == 1 })
	gone := config.Edit{Kind: config.Middleware, Delete: "stamp"}
	c.apply(route("/c", ""), config.Edit{Kind: config.Pipeline, Delete: "front"}, gone)
	collected(t, "the second is closed", func() bool { return closed.Load() == 2 && c.node.live.Len() == 0 })
	c.node.Close()
	if n := closed.Load(); n != 2 {
		t.Errorf("two were closed %d times", n)
	}
}

func collected(t *testing.T, what string, holds func() bool) {
	t.Helper()
	waittest.Until(t, what, func() bool {
		runtime.GC()
		return holds()
	})
}

// TestStepsThatCannotBeMade: a constructor that panics, or fails, costs the node nothing but that revision.
func TestStepsThatCannotBeMade(t *testing.T) {
	var closed atomic.Int64
	key := "one"
	c := newChanging(t)
	c.countingBy(&key, &closed)
	front := put(&configv1.Pipeline{Name: "front", Global: true, MiddlewareIds: []string{"stamp"}})
	c.apply(stamp(t, "a"), front)
	before, runs := c.node.Snapshot(), c.config
	for name, broken := range map[string]func() (pipeline.Step, error){
		"a defect":     func() (pipeline.Step, error) { panic("a defect") },
		"some trouble": func() (pipeline.Step, error) { return nil, errors.New("some trouble") },
	} {
		c.node.newStep = func(string, proto.Message, *pipeline.Environment) (pipeline.Step, error) { return broken() }
		plan, err := runs.Plan([]config.Edit{stamp(t, name)}, config.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		problems := c.node.Apply(Version{Epoch: "e", Revision: 9, Config: plan.Config})
		if len(problems) != 1 || problems[0].GetName() != "stamp" || !strings.Contains(problems[0].GetReason(), name) {
			t.Errorf("%s: %v", name, problems)
		}
	}
	if c.node.Snapshot() != before || closed.Load() != 0 {
		t.Error("the node lost what it had")
	}
}
