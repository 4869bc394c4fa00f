package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/explain"
	"gateway.internal/shared/routing"
)

// TestDoesWhatIsForetoldOfAnything makes configurations and heads at random: a node does with each what was foretold.
func TestDoesWhatIsForetoldOfAnything(t *testing.T) {
	o := newOracle(t, drawnServices...)
	valid := 0
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfiguration(t)
		if err := o.run(c); err != nil {
			if strings.Contains(err.Error(), "the node refuses it") {
				t.Fatal(err)
			}
			return // what makes no configuration
		}
		valid++
		for range 8 {
			h := drawHead(t)
			want := o.compiled.Explain(h)
			did, err := o.send(h, "")
			if err != nil {
				t.Fatalf("%s: %v", textOf(h), err)
			}
			if wrong := o.compare(h, want, did); wrong != "" {
				t.Fatalf("%s: %s", textOf(h), wrong)
			}
		}
	})
	if valid == 0 {
		t.Error("no configuration was valid")
	}
}

var (
	drawnServices  = []string{"s1", "s2", "s3"}
	drawnPipelines = []string{"", "", "p1", "p2", "p3"}
	drawnHosts     = []string{"a.test", "b.a.test", "c.test"}
	drawnMethods   = []string{"GET", "POST", "OPTIONS", "DELETE"}
)

// oneIn is true once in a number of draws.
func oneIn(t *rapid.T, of int, name string) bool { return rapid.IntRange(0, of-1).Draw(t, name) == 0 }

// drawConfiguration draws what is nearly always valid.
func drawConfiguration(t *rapid.T) *configv1.Configuration {
	c := &configv1.Configuration{}
	for i := range 4 {
		order := rapid.Uint32Range(0, 3).Draw(t, "order")*8 + uint32(i)
		m := &configv1.Middleware{Name: fmt.Sprint("m", i+1), Type: "headers", Order: order}
		if enabled := !oneIn(t, 4, "disabled"); !enabled {
			m.Enabled = &enabled
		}
		c.Middleware = append(c.Middleware, m)
	}
	c.Middleware = append(c.Middleware, &configv1.Middleware{
		Name: "cors", Type: "cors", Order: 100, Config: object("allow_origins", structpb.NewListValue(&structpb.ListValue{
			Values: []*structpb.Value{structpb.NewStringValue("*")},
		})).GetStructValue(),
	})
	for i := range 3 {
		p := &configv1.Pipeline{Name: fmt.Sprint("p", i+1), Global: oneIn(t, 4, "global"), Parallel: oneIn(t, 3, "parallel")}
		for _, m := range c.GetMiddleware() {
			if oneIn(t, 2, "member") && !(p.Parallel && m.GetType() == "cors") {
				p.MiddlewareIds = append(p.MiddlewareIds, m.GetName())
			}
		}
		if len(p.MiddlewareIds) == 0 {
			p.MiddlewareIds = []string{"m1"}
		}
		c.Pipelines = append(c.Pipelines, p)
	}
	for _, name := range drawnServices {
		c.Services = append(c.Services, &configv1.Service{
			Name: name, PipelineId: rapid.SampledFrom(drawnPipelines).Draw(t, "of service"),
		})
	}
	for i := range rapid.IntRange(1, 7).Draw(t, "routes") {
		c.Routes = append(c.Routes, drawRoute(t, fmt.Sprint("r", i)))
	}
	return c
}

func drawRoute(t *rapid.T, name string) *configv1.Route {
	r := &configv1.Route{Name: name, PipelineId: rapid.SampledFrom(drawnPipelines).Draw(t, "of route")}
	r.Path = rapid.SampledFrom([]string{
		"/*", "/a/*", "/a/b/*", "/b/*", "/a", "/a/b", "/a/{x}", "/{x}/b", "/{x}/{y}", "/a/{x}/*", "~/a/(?P<x>[a-z]+)/.*",
		"~/.*b",
	}).Draw(t, "path")
	if oneIn(t, 3, "has hosts") {
		r.Hosts = []string{rapid.SampledFrom([]string{"a.test", "*.a.test", "*.test"}).Draw(t, "host")}
	}
	if oneIn(t, 3, "has methods") {
		r.Methods = []string{rapid.SampledFrom(drawnMethods).Draw(t, "method")}
	}
	if oneIn(t, 4, "has fields") {
		r.Headers = []*configv1.HeaderMatch{{Name: "X-Kind", Match: &configv1.HeaderMatch_Exact{Exact: "1"}}}
	}
	if oneIn(t, 6, "has cookies") {
		r.Cookies = []*configv1.CookieMatch{{Name: "c", Match: &configv1.CookieMatch_Present{Present: true}}}
	}
	if oneIn(t, 5, "ignores case") {
		r.IgnoreCase = true
	}
	if oneIn(t, 5, "has a priority") {
		r.Priority = rapid.Int32Range(-2, 2).Draw(t, "priority")
	}
	if oneIn(t, 3, "has path options") {
		action := rapid.SampledFrom([]string{"refuse", "normalise", "keep"})
		r.PathOptions = &configv1.PathOptions{
			EncodedSlash:  action.Draw(t, "encoded slash"),
			EmptySegments: action.Draw(t, "empty segments"),
		}
		if oneIn(t, 2, "and of dots") {
			r.PathOptions.DotSegments = rapid.SampledFrom([]string{"refuse", "normalise"}).Draw(t, "dots")
		}
	}
	if oneIn(t, 6, "is short") {
		r.MaxTargetBytes = 64
	}
	drawTarget(t, r)
	return r
}

func optional[T any](v T) *T { return &v }

// drawTarget draws what a route does with what it takes.
func drawTarget(t *rapid.T, r *configv1.Route) {
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		r.DirectResponse = &configv1.DirectResponse{Status: 203, Body: "mine"}
		return
	case 1:
		r.Redirect = &configv1.Redirect{Path: "/elsewhere", Status: 307}
		return
	case 2:
		r.Redirect = &configv1.Redirect{Host: "c.test", Scheme: "https"}
		return
	case 3, 4:
		for _, name := range drawnServices {
			r.Backends = append(r.Backends, &configv1.Backend{
				ServiceId: name, Weight: optional(rapid.Uint32Range(0, 3).Draw(t, "weight")),
			})
		}
		drawShaping(t, r)
	default:
		r.ServiceId = rapid.SampledFrom(drawnServices).Draw(t, "service")
	}
	rewrite := &configv1.Rewrite{}
	if oneIn(t, 3, "another host") {
		rewrite.Host = rapid.SampledFrom([]string{"inner.test", "endpoint"}).Draw(t, "host of service")
	}
	switch {
	case strings.HasSuffix(r.Path, "*") && r.Path[0] == '/' && oneIn(t, 2, "by prefix"):
		prefix := rapid.SampledFrom([]string{"/", "/b", "/new/", "/a"}).Draw(t, "prefix")
		rewrite.PathRewrite = &configv1.Rewrite_Prefix{Prefix: prefix}
	case strings.Contains(r.Path, "{x}") && oneIn(t, 2, "by template"):
		template := rapid.SampledFrom([]string{"/t/{x}", "/{x}.", "/t{x}/.."}).Draw(t, "template")
		rewrite.PathRewrite = &configv1.Rewrite_Path{Path: template}
	case oneIn(t, 3, "by regex"):
		rewrite.PathRewrite = &configv1.Rewrite_Regex{Regex: &configv1.RegexRewrite{Pattern: "a", Substitution: "/"}}
	}
	if rewrite.Host != "" || rewrite.PathRewrite != nil {
		r.Rewrite = rewrite
	}
}

// drawShaping draws what leads requests to one of several backends.
func drawShaping(t *rapid.T, r *configv1.Route) {
	switch rapid.IntRange(0, 5).Draw(t, "sticky") {
	case 0:
		r.Sticky = &configv1.Sticky{Key: &configv1.Sticky_Cookie{Cookie: &configv1.ClientCookie{Name: "c", Ttl: "1h"}}}
	case 1:
		r.Sticky = &configv1.Sticky{Key: &configv1.Sticky_Header{Header: "X-Kind"}}
	case 2:
		r.Sticky = &configv1.Sticky{Key: &configv1.Sticky_ClientIp{ClientIp: true}}
	}
	for _, b := range r.GetBackends() {
		if oneIn(t, 3, "matches") {
			b.Match = &configv1.BackendMatch{Percent: optional(12.5)}
		}
		if oneIn(t, 4, "matches a cookie") {
			b.Match = &configv1.BackendMatch{Cookies: []*configv1.CookieMatch{
				{Name: "c", Match: &configv1.CookieMatch_Exact{Exact: "1"}},
			}}
		}
	}
}

func drawHead(t *rapid.T) *explain.Head {
	h := &explain.Head{
		Scheme: "http", Method: rapid.SampledFrom(drawnMethods).Draw(t, "method"),
		Host: rapid.SampledFrom(drawnHosts).Draw(t, "host"), Random: rapid.Uint32Range(0, 30).Draw(t, "random"),
		Client: routing.Client{Address: netip.MustParseAddr("127.0.0.1")},
	}
	h.Path = "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
		"/", "/", "/", "a", "b", "a", "b", "A", "..", ".", "%2f", "%2F", ";x", "%61", "%5c", "%00", "%zz",
		strings.Repeat("a", 60),
	}), 0, 8).Draw(t, "parts"), "")
	if h.HasQuery = oneIn(t, 3, "has a query"); h.HasQuery {
		h.RawQuery = rapid.SampledFrom([]string{"", "q", "q=%2F&x"}).Draw(t, "query")
	}
	if oneIn(t, 2, "has fields") {
		kind := rapid.SampledFrom([]string{"1", "2"}).Draw(t, "X-Kind")
		h.Fields = append(h.Fields, explain.Field{Name: "x-kind", Value: kind})
	}
	if oneIn(t, 3, "has cookies") {
		cookies := rapid.SampledFrom([]string{"c=1", "b=1; c=2", "c", ";;c = 3 "}).Draw(t, "Cookie")
		h.Fields = append(h.Fields, explain.Field{Name: "Cookie", Value: cookies})
	}
	if h.Method == "OPTIONS" && oneIn(t, 2, "is a preflight") {
		asked := rapid.SampledFrom(drawnMethods).Draw(t, "asks about")
		h.Fields = append(h.Fields, explain.Field{Name: "Origin", Value: "https://o.test"},
			explain.Field{Name: "Access-Control-Request-Method", Value: asked})
	}
	return h
}
