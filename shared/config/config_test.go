package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

func options() PlanOptions {
	n := 0
	return PlanOptions{Now: time.Unix(1000, 0), NewID: func() string { n++; return fmt.Sprintf("id-%p-%d", &n, n) }}
}

func put(m Message) Edit { return Edit{Kind: KindOfMessage(m), Put: m} }

func service(name string) *configv1.Service {
	return &configv1.Service{Name: name, Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 9000}}}
}

func headers(name string, order uint32) *configv1.Middleware {
	cfg, _ := structpb.NewStruct(map[string]any{"request": map[string]any{"set": map[string]any{"X-A": "1"}}})
	return &configv1.Middleware{Name: name, Type: "headers", Order: order, Config: cfg}
}

func mustPlan(t testing.TB, c *Config, edits ...Edit) *Plan {
	t.Helper()
	p, err := c.Plan(edits, options())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanResolvesNames(t *testing.T) {
	p := mustPlan(t, Empty(),
		put(&configv1.Route{Name: "r", Path: "/r", ServiceId: "s", PipelineId: "p"}),
		put(service("s")), put(headers("m", 1)), put(&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"m"}}))
	r := p.Config.ByName(Route, "r").Message.(*configv1.Route)
	if r.GetServiceId() != p.Config.ByName(Service, "s").ID() || !r.GetEnabled() || r.GetVersion() != 1 {
		t.Errorf("got %v", r)
	}
	again := mustPlan(t, p.Config, put(&configv1.Route{Name: "r", Path: "/r", ServiceId: "s", PipelineId: "p"}))
	if len(again.Changes) != 0 || again.Config != p.Config {
		t.Errorf("putting the same again makes %d changes", len(again.Changes))
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, err := Empty().Plan([]Edit{
		{Kind: Route, Put: &configv1.Route{Name: "R!", Path: "x", ServiceId: "usrs"}, Location: "routes[0]"},
		{Kind: Service, Put: service("users"), Location: "services[0]"},
		{
			Kind: Service,
			Put: &configv1.Service{
				Name: "s2", Protocol: "smtp", LoadBalancerType: "best",
				Endpoints: []*configv1.Endpoint{{Host: "a b", Port: 0}},
			},
		},
	}, options())
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatalf("got %v", err)
	}
	fields := map[string]bool{}
	for _, p := range ps {
		fields[p.Field] = true
		if p.Field == "service_id" && !strings.Contains(p.Message, `did you mean "users"`) {
			t.Errorf("no hint: %s", p)
		}
	}
	for _, want := range []string{
		"name", "path", "service_id", "protocol", "load_balancer_type", "endpoints[0].host",
		"endpoints[0].port",
	} {
		if !fields[want] {
			t.Errorf("no problem at %s in:\n%s", want, err)
		}
	}
}

func TestInvariants(t *testing.T) {
	base := mustPlan(t, Empty(), put(service("s")), put(headers("m", 1)), put(headers("m2", 1)),
		put(&configv1.Policy{Name: "quick", MaxTimeout: "1s"}),
		put(&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"m"}}),
		put(&configv1.Route{Name: "r", Path: "/r", ServiceId: "s", PipelineId: "p", PolicyId: "quick"})).Config
	cors, _ := structpb.NewStruct(map[string]any{"allow_origins": []any{"*"}})
	mirrored := func(m *configv1.Mirror) []Edit {
		return []Edit{put(&configv1.Route{Name: "q", Path: "/", ServiceId: "s", Mirror: m})}
	}
	reading := extAuth("reads", "s")
	reading.Order, reading.Config.Fields["max_body_bytes"] = 9, structpb.NewNumberValue(10)
	parallel := &configv1.Pipeline{Name: "pp", Parallel: true, MiddlewareIds: []string{"m", "reads"}}
	quoted := extAuth("reads", "s")
	quoted.Order, quoted.Config.Fields["max_body_bytes"] = 9, structpb.NewStringValue("10")
	for _, c := range []struct {
		name  string
		edits []Edit
		want  string
	}{
		{
			"parallel of one that reads the body, in quotes", []Edit{put(quoted), put(parallel)},
			"can't be in a parallel",
		},
		{"mirror of nothing", mirrored(&configv1.Mirror{}), "mirror.service_id is required"},
		{"mirror to nobody", mirrored(&configv1.Mirror{ServiceId: "z"}), "mirror.service_id \"z\" names no service"},
		{
			"mirror of more than all", mirrored(&configv1.Mirror{ServiceId: "s", Percent: proto.Float64(101)}),
			"at most 100",
		},
		{"mirror of a redirect", []Edit{put(&configv1.Route{
			Name: "q", Path: "/", Redirect: &configv1.Redirect{Path: "/x"}, Mirror: &configv1.Mirror{ServiceId: "s"},
		})}, "can't be together"},
		{
			"pipeline slower than the policy",
			[]Edit{put(&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"m"}, TimeoutMs: 2000})},
			"max_timeout 1s",
		},
		{
			"global pipeline slower than a policy",
			[]Edit{put(&configv1.Pipeline{
				Name: "g", MiddlewareIds: []string{"m"}, TimeoutMs: 2000, Global: true,
			})},
			"max_timeout 1s",
		},
		{
			"orders twice", []Edit{put(&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"m", "m2"}})},
			"orders are unique",
		},
		{
			"order changed to one that is taken",
			[]Edit{
				put(&configv1.Pipeline{Name: "p2", MiddlewareIds: []string{"m"}}), put(headers("m3", 2)),
				put(&configv1.Pipeline{Name: "p3", MiddlewareIds: []string{"m2", "m"}}),
			},
			"orders are unique",
		},
		{
			"parallel of a type that can't",
			[]Edit{
				put(&configv1.Middleware{Name: "c", Type: "cors", Config: cors, Order: 9}),
				put(&configv1.Pipeline{Name: "pp", Parallel: true, MiddlewareIds: []string{"m", "c"}}),
			},
			"can't be in a parallel",
		},
		{"parallel of one that reads the body", []Edit{put(reading), put(parallel)}, "can't be in a parallel"},
		{"empty pipeline", []Edit{put(&configv1.Pipeline{Name: "e"})}, "at least one"},
		{
			"pipeline of pipelines", []Edit{put(&configv1.Pipeline{Name: "e", MiddlewareIds: []string{"p"}})},
			"names no middleware",
		},
		{"used service", []Edit{{Kind: Service, Delete: "s"}}, `service "s" is used by route "r"`},
		{
			"used middleware among others",
			[]Edit{{Kind: Middleware, Delete: "m"}, {Kind: Middleware, Delete: "m2"}},
			`can't be removed: middleware "m" is used by pipeline "p"`,
		},
		{"unknown", []Edit{{Kind: Route, Delete: "nope"}}, `there is no route "nope"`},
		{
			"taken name",
			[]Edit{{
				Kind: Route, Put: &configv1.Route{Name: "r", Path: "/", ServiceId: "s"}, MustNotExist: true,
			}},
			`there is a route "r" already`,
		},
		{
			"old version",
			[]Edit{{Kind: Route, Put: &configv1.Route{Name: "r", Path: "/", ServiceId: "s"}, Version: 7}},
			"is at version 1, not 7",
		},
		{
			"two targets",
			[]Edit{put(&configv1.Route{
				Name: "q", Path: "/", ServiceId: "s", Redirect: &configv1.Redirect{Path: "/x"},
			})},
			"exactly one of",
		},
		{
			"circular redirect",
			[]Edit{put(&configv1.Route{Name: "q", Path: "/", Redirect: &configv1.Redirect{}})}, "circles",
		},
		{
			"unknown parameter",
			[]Edit{put(&configv1.Route{
				Name: "q", Path: "/{a}", ServiceId: "s",
				Rewrite: &configv1.Rewrite{PathRewrite: &configv1.Rewrite_Path{Path: "/{b}"}},
			})},
			"uses {b}",
		},
		{
			"prefix rewrite of an exact path",
			[]Edit{put(&configv1.Route{
				Name: "q", Path: "/a", ServiceId: "s",
				Rewrite: &configv1.Rewrite{PathRewrite: &configv1.Rewrite_Prefix{Prefix: "/"}},
			})},
			"only for paths that end",
		},
		{
			"endpoints and discovery",
			[]Edit{put(&configv1.Service{
				Name: "d", Endpoints: service("x").Endpoints,
				Discovery: &configv1.Discovery{Source: &configv1.Discovery_Etcd{
					Etcd: &configv1.EtcdDiscovery{},
				}},
			})},
			"can't be together",
		},
		{
			"check slower than its interval",
			[]Edit{put(&configv1.Service{
				Name: "h", HealthCheckConfig: &configv1.HealthCheckConfig{Interval: "1s", Timeout: "2s"},
			})},
			"has to be from 10ms to 1s",
		},
		{
			"certificate without PEM",
			[]Edit{put(&configv1.Certificate{Name: "c", CertPem: "x", KeyPem: "secret"})},
			"no CERTIFICATE block",
		},
	} {
		_, err := base.Plan(c.edits, options())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a key", c.name)
		}
	}
}

func TestShrinkIsRefused(t *testing.T) {
	var edits, removals []Edit
	edits = append(edits, put(service("s")))
	for i := range 20 {
		name := fmt.Sprint("r", i)
		edits = append(edits, put(&configv1.Route{Name: name, Path: "/" + name, ServiceId: "s"}))
		if i < 15 {
			removals = append(removals, Edit{Kind: Route, Delete: name})
		}
	}
	c := mustPlan(t, Empty(), edits...).Config
	if _, err := c.Plan(removals, options()); err == nil || !strings.Contains(err.Error(), "removes 15 of 20 routes") {
		t.Errorf("got %v", err)
	}
	opts := options()
	opts.AllowShrink = true
	if _, err := c.Plan(removals, opts); err != nil {
		t.Error(err)
	}
}

func TestWarnings(t *testing.T) {
	p := mustPlan(
		t, Empty(), put(service("s")),
		put(&configv1.Route{Name: "all", Path: "/*", ServiceId: "s", Priority: 9}),
		put(&configv1.Route{Name: "one", Path: "/one", ServiceId: "s"}),
	)
	if len(p.Warnings()) != 1 || p.Warnings()[0].Name != "one" || !strings.Contains(p.Warnings()[0].Message, `"all"`) {
		t.Errorf("got %v", p.Warnings())
	}
}

// TestStreamFollowsPlans makes random edits and checks that what travels to nodes leads to the same configuration, that
// hashes are those of a configuration built from scratch, and that differences and their inverses lead back and forth.
func TestStreamFollowsPlans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, node := Empty(), Empty()
		opts := options()
		opts.AllowShrink = true
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			var edits []Edit
			for range rapid.IntRange(1, 4).Draw(t, "edits") {
				name := fmt.Sprint("n", rapid.IntRange(0, 4).Draw(t, "name"))
				switch rapid.IntRange(0, 4).Draw(t, "what") {
				case 0:
					edits = append(edits, put(service(name)))
				case 1:
					edits = append(
						edits,
						put(&configv1.Route{
							Name: name, Path: "/" + name, Priority: rapid.Int32Range(0, 3).Draw(t, "priority"),
							DirectResponse: &configv1.DirectResponse{Body: name},
						}),
					)
				case 2:
					edits = append(edits, put(headers(name, rapid.Uint32Range(0, 3).Draw(t, "order"))))
				case 3:
					edits = append(edits, Edit{Kind: Route, Delete: name})
				case 4:
					edits = append(edits, put(&configv1.Route{Name: name, Path: "/" + name, ServiceId: "n1"}))
				}
			}
			plan, err := c.Plan(edits, opts)
			if err != nil {
				continue
			}
			changes := Diff(c, plan.Config)
			if len(changes) != len(plan.Changes) {
				t.Fatalf("Diff finds %d changes, the plan made %d", len(changes), len(plan.Changes))
			}
			back, err := plan.Config.With(Invert(plan.Changes))
			if err != nil || back.Hash() != c.Hash() {
				t.Fatalf("the inverse does not lead back: %v", err)
			}
			var upserts []*Entry
			var removals []*streamv1.ResourceRef
			for _, ch := range plan.Changes {
				if ch.After == nil {
					removals = append(removals, &streamv1.ResourceRef{Kind: ch.Kind.Proto(), Id: ch.ID()})
					continue
				}
				raw, err := proto.Marshal(plan.Config.ByID(ch.Kind, ch.ID()).Encoded())
				if err != nil {
					t.Fatal(err)
				}
				r := &streamv1.Resource{}
				if err := proto.Unmarshal(raw, r); err != nil {
					t.Fatal(err)
				}
				e, err := Decode(r)
				if err != nil {
					t.Fatal(err)
				}
				upserts = append(upserts, e)
			}
			if node, err = node.WithEntries(upserts, removals); err != nil {
				t.Fatal(err)
			}
			c = plan.Config
			if node.Hash() != c.Hash() {
				t.Fatal("the node has another hash")
			}
			var all []Change
			for _, k := range Kinds() {
				for e := range c.All(k) {
					all = append(all, Change{Kind: k, After: e})
					if c.ByName(k, e.Name()) != e {
						t.Fatalf("%s %q is not found by name", k, e.Name())
					}
				}
			}
			scratch, err := Empty().With(all)
			if err != nil || scratch.Hash() != c.Hash() {
				t.Fatalf("from scratch there is another hash: %v", err)
			}
			if c.Table().Len() != c.Len(Route) {
				t.Fatalf("the table has %d routes of %d", c.Table().Len(), c.Len(Route))
			}
		}
	})
}

func TestDecodeRefusesWhatWasChanged(t *testing.T) {
	c := mustPlan(t, Empty(), put(service("s"))).Config
	r := proto.CloneOf(c.ByName(Service, "s").Encoded())
	r.Body = append(r.Body, 0)
	if _, err := Decode(r); err == nil || !strings.Contains(err.Error(), "hash") {
		t.Errorf("got %v", err)
	}
}

func TestLimitsMerge(t *testing.T) {
	svc := &configv1.Policy{Timeout: "1s", MaxRequestBytes: proto.Int64(5)}
	got := LimitsOf(&configv1.Policy{Timeout: "2s"}, svc)
	if d := cmp.Diff(
		Limits{Timeout: 2 * time.Second, MaxRequestBytes: 5, Upgrades: []string{"websocket"}}, got,
	); d != "" {
		t.Error(d)
	}
}

func TestMiddlewareTravelsTyped(t *testing.T) {
	c := mustPlan(t, Empty(), put(headers("m", 1))).Config
	e, err := Decode(c.ByName(Middleware, "m").Encoded())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c.ByName(Middleware, "m").Settings, e.Settings, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}
