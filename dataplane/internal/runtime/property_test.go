package runtime

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// said is what a snapshot consists of, in words that do not depend on what it was derived from.
func said(r *Runtime) []string {
	pipelines, pages := map[uintptr]string{}, map[uintptr]string{}
	for id, p := range r.made.pipelines {
		pipelines[reflect.ValueOf(p.thing).Pointer()] = fmt.Sprintf("%s of %x", id, p.of)
	}
	for key, p := range r.made.pages {
		pages[reflect.ValueOf(p.thing).Pointer()] = fmt.Sprintf("%v of %x", key, p.of)
	}
	s := r.Snapshot()
	var all []string
	add := func(view string, rule *Route, id string) {
		line := fmt.Sprintf("%s %s %s allow=%s max=%d preflights=%t %s split=%+v", view, id, rule.Name, rule.Allow,
			rule.MaxTargetBytes, rule.Preflights, rule.Methods, rule.Split)
		if rule.Direct != nil {
			line += fmt.Sprintf(" direct=%d %q %q", rule.Direct.Status, rule.Direct.Fields, rule.Direct.Body)
		}
		for i := range rule.Backends {
			b := &rule.Backends[i]
			service := "none"
			if b.Service != nil {
				service = b.Service.Name()
				if r.services.Get(b.Count.Key().ServiceID) != b.Service {
					service += ", which is gone"
				}
			}
			line += fmt.Sprintf("\n  %s limits=%+v counts=%v", service, b.Limits, b.Count.Key())
			if b.Errors != nil {
				line += " pages=" + known(pages, reflect.ValueOf(b.Errors).Pointer())
			}
			if b.Chain != nil {
				list := reflect.ValueOf(b.Chain).Elem().FieldByName("pipelines")
				for i := range list.Len() {
					line += " pipeline=" + known(pipelines, list.Index(i).Pointer())
				}
			}
		}
		all = append(all, line)
	}
	for _, rule := range s.Table.All() {
		add("node", rule.Value.(*Route), rule.ID)
	}
	own := len(all)
	for _, v := range s.Views {
		for _, rule := range v.Table.All() {
			add(fmt.Sprintf("view %+v", v.Paths.Settings()), rule.Value.(*Route), rule.ID)
		}
	}
	slices.Sort(all[own:])
	return all
}

func known(of map[uintptr]string, p uintptr) string {
	if s := of[p]; s != "" {
		return s
	}
	return "one that is not in force"
}

// TestAnyEditsCompileAsTheWholeDoes: a node that takes random changes one by one comes to the same as one that is given
// the result, and what does not compile changes nothing.
func TestAnyEditsCompileAsTheWholeDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newChanging(t)
		pick := func(what string, of ...string) string { return rapid.SampledFrom(of).Draw(rt, what) }
		number := func(what string, below int) int { return rapid.IntRange(0, below-1).Draw(rt, what) }
		has := func(k config.Kind, name string) string {
			if c.config.ByName(k, name) == nil {
				return ""
			}
			return name
		}
		settings, err := structpb.NewStruct(map[string]any{"response": map[string]any{"set": map[string]any{"A": "x"}}})
		if err != nil {
			rt.Fatal(err)
		}
		var all []config.Edit // each of which refers to the others of its name
		for i := range uint32(3) {
			name := fmt.Sprint("x", i)
			all = append(all, put(&configv1.Middleware{Name: name, Type: "headers", Order: i + 1, Config: settings}),
				put(&configv1.Pipeline{Name: name, MiddlewareIds: []string{name}}),
				put(&configv1.Policy{Name: name, Timeout: "9s"}),
				put(&configv1.Service{Name: name, PipelineId: name, PolicyId: name,
					Endpoints: []*configv1.Endpoint{{Host: "h", Port: 1}}}),
				put(&configv1.Route{Name: name, Path: "/" + name, ServiceId: name, PipelineId: fmt.Sprint("x", (i+1)%3)}))
		}
		c.apply(all...)
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			var m config.Message
			name := fmt.Sprint("x", number("name", 3))
			switch pick("kind", "service", "service", "route", "route", "route", "policy", "middleware", "pipeline", "consumer",
				"delete") {
			case "service":
				m = &configv1.Service{Name: name, PipelineId: has(config.Pipeline, pick("pipeline", "x0", "x1", "none")),
					PolicyId:  has(config.Policy, pick("policy", "x0", "x1", "none")),
					Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: uint32(1 + number("port", 3))}}}
			case "route":
				r := &configv1.Route{Name: name, Path: fmt.Sprintf("/%s/%d", pick("path", "a", "b", "*")[:1], number("version", 2)),
					Priority: int32(number("priority", 2)), PipelineId: has(config.Pipeline, pick("pipeline", "x0", "x2", "none")),
					PolicyId: has(config.Policy, pick("policy", "x1", "x2", "none"))}
				if pick("path", "a", "b", "*") == "*" {
					r.Path = "/p/*"
				}
				if number("options", 3) == 0 {
					r.PathOptions = &configv1.PathOptions{EncodedSlash: pick("slash", "keep", "reject")}
				}
				if r.ServiceId = has(config.Service, pick("service", "x0", "x1", "x2")); r.ServiceId == "" {
					r.DirectResponse = &configv1.DirectResponse{Body: fmt.Sprint(number("body", 3))}
				}
				m = r
			case "policy":
				p := &configv1.Policy{Name: name, Timeout: fmt.Sprint(1+number("timeout", 3), "s")}
				if number("pages", 2) == 0 {
					p.Errors = page(fmt.Sprint(number("page", 3)))
				}
				m = p
			case "middleware":
				set := map[string]any{"set": map[string]any{"A": fmt.Sprint(number("value", 3))}}
				settings, err := structpb.NewStruct(map[string]any{"response": set})
				if err != nil {
					rt.Fatal(err)
				}
				m = &configv1.Middleware{Name: name, Type: "headers", Order: uint32(1 + number("order", 100_000)), Config: settings}
			case "pipeline":
				p := &configv1.Pipeline{Name: name, Global: number("global", 4) == 0}
				for _, id := range []string{"x0", "x1", "x2"} {
					if has(config.Middleware, id) != "" && number("member", 2) == 0 {
						p.MiddlewareIds = append(p.MiddlewareIds, id)
					}
				}
				m = p
			case "consumer":
				m = &configv1.Consumer{Name: name, Groups: []string{pick("group", "g", "h")}}
			}
			edit := config.Edit{Kind: rapid.SampledFrom(config.Kinds()).Draw(rt, "of"), Delete: name}
			if m != nil {
				edit = put(m)
			}
			before := c.node.Snapshot()
			plan, err := c.config.Plan([]config.Edit{edit}, config.PlanOptions{AllowShrink: true, NewID: func() string {
				c.n++
				return fmt.Sprint("id", c.n)
			}})
			if err != nil {
				continue // what can't be committed
			}
			c.revision++
			problems := c.node.Apply(Version{Epoch: "e", Revision: c.revision, Config: plan.Config})
			if len(problems) > 0 {
				if c.node.Snapshot() != before {
					rt.Fatal("what was refused is in force")
				}
				continue
			}
			c.config = plan.Config
			if before != nil && edit.Kind == config.Consumer && c.node.Snapshot().Table != before.Table {
				rt.Fatal("a consumer has changed the table of routes")
			}
			whole := newChanging(t)
			if problems := whole.node.Apply(Version{Epoch: "e", Revision: c.revision, Config: c.config}); len(problems) > 0 {
				rt.Fatal(problems)
			}
			if d := cmp.Diff(said(whole.node), said(c.node)); d != "" {
				rt.Fatalf("compiled anew (-) and step by step (+):\n%s", d)
			}
		}
	})
}
