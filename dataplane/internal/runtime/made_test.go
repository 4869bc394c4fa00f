package runtime

import (
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"testing"
	"time"
	"weak"

	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/errorpage"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/match"
)

// changing is a node whose configuration is changed step by step.
type changing struct {
	t        *testing.T
	node     *Runtime
	config   *config.Config
	n        int
	revision uint32
}

func newChanging(t *testing.T) *changing {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	services := upstream.NewRegistry(log)
	t.Cleanup(services.Close)
	return &changing{t: t, node: New(log, services, telemetry.New(1), certificate.NewTickets(nil)), config: config.Empty()}
}

func (c *changing) apply(edits ...config.Edit) *Snapshot {
	c.t.Helper()
	plan, err := c.config.Plan(edits, config.PlanOptions{Now: time.Unix(1, 0), AllowShrink: true, NewID: func() string {
		c.n++
		return fmt.Sprint("id", c.n)
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.config = plan.Config
	c.revision++
	if problems := c.node.Apply(Version{Epoch: "e", Revision: c.revision, Config: c.config}); len(problems) > 0 {
		c.t.Fatal(problems)
	}
	return c.node.Snapshot()
}

func put(m config.Message) config.Edit { return config.Edit{Kind: config.KindOfMessage(m), Put: m} }

func stamp(t *testing.T, value string) config.Edit {
	t.Helper()
	set := map[string]any{"set": map[string]any{"X-Stamp": value}}
	settings, err := structpb.NewStruct(map[string]any{"response": set})
	if err != nil {
		t.Fatal(err)
	}
	return put(&configv1.Middleware{Name: "stamp", Type: "headers", Order: 1, Config: settings})
}

func page(body string) []*configv1.ErrorPage {
	return []*configv1.ErrorPage{{Bodies: []*configv1.ErrorBody{{ContentType: "text/plain", Body: body}}}}
}

func shared(path string) config.Edit {
	return put(&configv1.Route{
		Name: "r", Path: path, PipelineId: "front", PolicyId: "strict", DirectResponse: &configv1.DirectResponse{},
	})
}

// parts are what the route "r" shares with others.
func (c *changing) parts() (*pipeline.Pipeline, *errorpage.Pages) {
	c.t.Helper()
	id := c.config.ByName(config.Route, "r").ID()
	p := c.node.made.pipelines[c.config.ByName(config.Pipeline, "front").ID()].thing
	b := c.node.Snapshot().Table.ByID(id).Value.(*Route).Backends[0]
	if b.Chain == nil || p == nil || b.Errors == nil {
		c.t.Fatal("the route has no pipeline or no pages")
	}
	return p, b.Errors
}

// TestRoutesShareWhatIsMadeOnce: changes of routes make no pipelines and no pages anew, changes of what those are made
// of do.
func TestRoutesShareWhatIsMadeOnce(t *testing.T) {
	errors := func(body string) config.Edit {
		return put(&configv1.Policy{Name: "strict", Errors: page(body)})
	}
	c := newChanging(t)
	front := put(&configv1.Pipeline{Name: "front", MiddlewareIds: []string{"stamp"}})
	c.apply(stamp(t, "a"), front, errors("one"), shared("/a"))
	for _, step := range []struct {
		name            string
		edit            config.Edit
		pipeline, pages bool // are made anew
	}{
		{"the route", shared("/b"), false, false},
		{"the middleware", stamp(t, "b"), true, false},
		{"the route again", shared("/c"), false, false},
		{"the policy", errors("two"), false, true},
		{"another policy", put(&configv1.Policy{Name: "other"}), false, false},
		{"the pipeline", put(&configv1.Pipeline{Name: "front", MiddlewareIds: []string{"stamp"}, TimeoutMs: 9}), true, false},
		{"a global policy", put(&configv1.Policy{Name: "all", Global: true, Errors: page("all")}), false, true},
		{"the route at last", shared("/d"), false, false},
	} {
		p, e := c.parts()
		c.apply(step.edit)
		if now, pages := c.parts(); (now != p) != step.pipeline || (pages != e) != step.pages {
			t.Errorf("after a change of %s: the pipeline is new: %t, the pages are: %t", step.name, now != p, pages != e)
		}
	}
}

// TestAncestorsAreLetGo: of earlier configurations nothing stays but what the newest one shares with them.
func TestAncestorsAreLetGo(t *testing.T) {
	c := newChanging(t)
	c.apply(stamp(t, "a"), put(&configv1.Pipeline{Name: "front", MiddlewareIds: []string{"stamp"}, Global: true}),
		put(&configv1.Policy{Name: "strict"}),
		put(&configv1.Service{Name: "s", Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}}}))
	var snapshots []weak.Pointer[Snapshot]
	var configs []weak.Pointer[config.Config]
	var tables []weak.Pointer[match.Table]
	var pipelines []weak.Pointer[pipeline.Pipeline]
	for i := range 20 {
		s := c.apply(put(&configv1.Route{Name: fmt.Sprint("r", i), Path: fmt.Sprintf("/%d/*", i), ServiceId: "s"}))
		snapshots, configs = append(snapshots, weak.Make(s)), append(configs, weak.Make(c.config))
		tables = append(tables, weak.Make(s.Table))
		pipelines = append(pipelines, weak.Make(c.node.made.pipelines["id2"].thing))
		if i%5 == 0 {
			c.apply(stamp(t, fmt.Sprint(i)))
		}
	}
	alive := func() map[string]int {
		runtime.GC()
		there := map[string]map[any]bool{"snapshots": {}, "configurations": {}, "tables": {}, "pipelines": {}}
		for i := range snapshots {
			there["snapshots"][snapshots[i].Value()], there["configurations"][configs[i].Value()] = true, true
			there["tables"][tables[i].Value()], there["pipelines"][pipelines[i].Value()] = true, true
		}
		delete(there["snapshots"], (*Snapshot)(nil))
		delete(there["configurations"], (*config.Config)(nil))
		delete(there["tables"], (*match.Table)(nil))
		delete(there["pipelines"], (*pipeline.Pipeline)(nil))
		count := map[string]int{}
		for name, things := range there {
			count[name] = len(things)
		}
		return count
	}
	// Several routes have come since all were made anew: what each of them has kept for itself would be there.
	newest := map[string]int{"snapshots": 1, "configurations": 1, "tables": 1, "pipelines": 1}
	if got := alive(); !maps.Equal(got, newest) {
		t.Errorf("of %d each there are still %v", len(snapshots), got)
	}
	c.apply(stamp(t, "last"))
	if got := alive(); !maps.Equal(got, map[string]int{"snapshots": 0, "configurations": 0, "tables": 0, "pipelines": 0}) {
		t.Errorf("after a change of all routes, of %d each there are still %v", len(snapshots), got)
	}
	runtime.KeepAlive(c)
}
