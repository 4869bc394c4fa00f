package config

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/certtest"
)

func weighted(name, balancer string, weights ...uint32) *configv1.Service {
	s := &configv1.Service{Name: name, LoadBalancerType: balancer}
	for i, w := range weights {
		s.Endpoints = append(s.Endpoints, &configv1.Endpoint{Host: "127.0.0.1", Port: uint32(9000 + i),
			Weight: proto.Uint32(w)})
	}
	return s
}

func answer(name, path string, hosts ...string) *configv1.Route {
	return &configv1.Route{Name: name, Path: path, Hosts: hosts, DirectResponse: &configv1.DirectResponse{}}
}

func cors(name string, methods ...any) *configv1.Middleware {
	cfg, _ := structpb.NewStruct(map[string]any{"allow_origins": []any{"*"}, "allow_methods": methods})
	return &configv1.Middleware{Name: name, Type: "cors", Config: cfg}
}

// validFor returns a certificate with its key, for a.example.
func validFor(t *testing.T, name string, from, to time.Time) *configv1.Certificate {
	t.Helper()
	c := certtest.New(t, nil, x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{"a.example"},
		NotBefore: from, NotAfter: to})
	return &configv1.Certificate{Name: name, CertPem: c.CertPEM, KeyPem: c.KeyPEM}
}

// TestWhatIsHardlyMeant: what is legal, and what is said of it, in lines; "": nothing.
func TestWhatIsHardlyMeant(t *testing.T) {
	now := options().Now
	day := 24 * time.Hour
	chain := validFor(t, "c", now.Add(-day), now.Add(90*day))
	chain.CertPem += validFor(t, "the issuer", now.Add(-day), now.Add(-time.Hour)).CertPem
	split := &configv1.Route{Name: "r", Path: "/r", Methods: []string{"GET"},
		Backends: []*configv1.Backend{{ServiceId: "one"}, {ServiceId: "two"}}}
	withPipeline := func(name, pipeline string) *configv1.Service {
		s := service(name)
		s.PipelineId = pipeline
		return s
	}
	keyedBy := func(name, cookie string) *configv1.Service {
		s := service(name)
		s.LoadBalancerType, s.LoadBalancerConfig = "consistent_hash", &configv1.LoadBalancerConfig{
			HashKey: &configv1.HashKey{Source: &configv1.HashKey_Cookie{Cookie: &configv1.ClientCookie{Name: cookie}}}}
		return s
	}
	sticky := proto.Clone(split).(*configv1.Route)
	sticky.Sticky = &configv1.Sticky{Key: &configv1.Sticky_Cookie{Cookie: &configv1.ClientCookie{Name: "at"}}}
	off := cors("c")
	off.Enabled = proto.Bool(false)
	for name, c := range map[string]struct {
		before, edits []Message
		want          string
	}{
		"weights in turn": {nil, []Message{weighted("s", "", 9, 1)},
			`service "s": endpoints[0].weight "9" has no effect: load_balancer_type "round_robin"`},
		"weights in turn, said": {nil, []Message{weighted("s", "round_robin", 9, 1)}, "has no effect"},
		"weights by weight":     {nil, []Message{weighted("s", "weighted_round_robin", 9, 1)}, ""},
		"weights of busy ones":  {nil, []Message{weighted("s", "least_connections", 9, 1)}, ""},
		"the same weight":       {nil, []Message{weighted("s", "", 5, 5)}, ""},
		"one out of use":        {nil, []Message{weighted("s", "", 5, 0, 5)}, ""},
		"all out of use":        {nil, []Message{weighted("s", "", 0, 0)}, `endpoints all have the weight 0`},
		"no endpoints": {nil, []Message{&configv1.Service{Name: "s"}},
			`service "s": endpoints is empty`},
		"an unknown method": {nil, []Message{&configv1.Route{Name: "r", Path: "/", Method: "GETT",
			DirectResponse: &configv1.DirectResponse{}}}, `route "r": method "GETT" is no registered HTTP method; did you ` +
			`mean "GET"?`},
		"an unknown method, out of use": {nil, []Message{&configv1.Route{Name: "r", Path: "/", Method: "GETT",
			Enabled: proto.Bool(false), DirectResponse: &configv1.DirectResponse{}}}, `did you mean "GET"?`},
		"an unknown method for scripts": {nil, []Message{cors("c", "put", "PTCH")},
			`middleware "c": config.allow_methods[1] "PTCH" is no registered HTTP method; did you mean "PATCH"?`},
		"a host's own and a longer path": {nil, []Message{answer("web", "/*", "a.example"), answer("api", "/api/*")},
			`route "web": path "/*" does not get all of "a.example": GET /api goes to route "api"`},
		"a longer path that comes later": {[]Message{answer("web", "/*", "a.example")},
			[]Message{answer("api", "/api/*")}, `route "api": path "/api/*" takes requests of "a.example" from route "web"`},
		"a host that comes later": {[]Message{answer("api", "/api/*")},
			[]Message{answer("web", "/*", "a.example")}, `route "web": path "/*" does not get all`},
		"something else later": {[]Message{answer("web", "/*", "a.example"), answer("api", "/api/*")},
			[]Message{answer("b", "/*", "b.example")}, `route "b"`},
		"an answer to ACME": {nil, []Message{answer("web", "/*", "a.example"),
			answer("acme", ChallengePath+"token")}, ""},
		"a route that is unreachable": {nil, []Message{answer("a", "/a"),
			&configv1.Route{Name: "b", Path: "/a", Priority: -1,
				DirectResponse: &configv1.DirectResponse{}}}, `route "b": path "/a" can never match: route "a" answers`},
		"a route that was unreachable": {[]Message{answer("a", "/a"),
			&configv1.Route{Name: "b", Path: "/a", Priority: -1,
				DirectResponse: &configv1.DirectResponse{}}}, []Message{answer("c", "/c")}, ""},
		"a route that becomes unreachable": {[]Message{answer("b", "/b")},
			[]Message{&configv1.Route{Name: "all", Path: "/*", Priority: 1,
				DirectResponse: &configv1.DirectResponse{}}}, `route "b": path "/b" can never match any more: route "all" ` +
				`answers`},
		"a certificate of tomorrow": {nil, []Message{validFor(t, "c", now.Add(day), now.Add(90*day))},
			`certificate "c": cert_pem is not valid yet: it begins at 1970-01-02T00:16:40Z`},
		"a certificate of yesterday": {nil, []Message{validFor(t, "c", now.Add(-2*day), now.Add(-day))},
			`certificate "c": cert_pem has ended, at 1969-12-31T00:16:40Z`},
		"a certificate that ends soon": {nil, []Message{validFor(t, "c", now.Add(-2*day), now.Add(day))},
			`cert_pem ends soon`},
		"a certificate of today": {nil, []Message{validFor(t, "c", now.Add(-day), now.Add(90*day))}, ""},
		"an issuer of yesterday": {nil, []Message{chain},
			`cert_pem has ended, at 1969-12-31T23:16:40Z (number 2, of "the issuer")`},
		"cors for a route without OPTIONS": {nil, []Message{service("s"), cors("c"),
			&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"c"}}, &configv1.Route{Name: "r", Path: "/r",
				Methods: []string{"GET"}, ServiceId: "s", PipelineId: "p"}}, ""},
		"cors of one service of two": {nil, []Message{withPipeline("one", "p"), service("two"), cors("c"),
			&configv1.Pipeline{Name: "p",
				MiddlewareIds: []string{"c"}}, split}, `route "r": backends answer no CORS preflights: pipeline "p" has a cors ` +
			`step, but nothing runs one for "two"`},
		"cors of one service of two, later": {[]Message{service("one"), service("two"), cors("c"),
			&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"c"}}, split}, []Message{withPipeline("one",
			"p")}, `but nothing runs one for "two"`},
		"cors that becomes one of two": {[]Message{withPipeline("one", "p"), service("two"), headers("c", 0),
			&configv1.Pipeline{Name: "p",
				MiddlewareIds: []string{"c"}}, split}, []Message{cors("c")}, `but nothing runs one for "two"`},
		"cors of both services": {nil, []Message{withPipeline("one", "p"), withPipeline("two", "p"), cors("c"),
			&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"c"}}, split}, ""},
		"cors for everything": {nil, []Message{withPipeline("one", "p"), service("two"), cors("c"),
			&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"c"}}, &configv1.Pipeline{Name: "g",
				MiddlewareIds: []string{"c"}, Global: true}, split}, ""},
		"one name for two cookies": {nil, []Message{service("one"), keyedBy("two", "at"), sticky},
			`route "r": sticky.cookie.name "at" is also the cookie of service "two"`},
		"one name for two cookies, later": {[]Message{service("one"), service("two"), sticky},
			[]Message{keyedBy("two", "at")}, `is also the cookie of service "two"`},
		"two names for two cookies": {nil, []Message{service("one"), keyedBy("two", "node"), sticky}, ""},
		"one name for two cookies, as before": {[]Message{service("one"), keyedBy("two", "at"), sticky},
			[]Message{service("three")}, ""},
		"cors out of use": {nil, []Message{withPipeline("one", "p"), service("two"), off,
			&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"c"}}, split}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			base := Empty()
			if len(c.before) > 0 {
				base = mustPlan(t, base, puts(c.before)...).Config
			}
			got := ""
			for _, w := range mustPlan(t, base, puts(c.edits)...).Warnings() {
				got += w.String() + "\n"
			}
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) || strings.Count(got, "\n") > 1 {
				t.Errorf("got %s, want %q", got, c.want)
			}
		})
	}
}

func puts(list []Message) (edits []Edit) {
	for _, m := range list {
		edits = append(edits, Edit{Kind: KindOfMessage(m), Put: m, Location: KindOfMessage(m).Plural() + "[0]"})
	}
	return edits
}

// TestWarningsAreCounted: of each sort some are named, so that none hides the others, and each says where it stands
// in what was sent.
func TestWarningsAreCounted(t *testing.T) {
	edits := []Edit{put(weighted("s", "", 9, 1))}
	for i := range 100 {
		r := answer(fmt.Sprint("r", i), fmt.Sprint("/", i))
		r.Method = "GETT"
		edits = append(edits, Edit{Kind: Route, Put: r, Location: fmt.Sprintf("routes[%d]", i)})
	}
	warnings := mustPlan(t, Empty(), edits...).Warnings()
	if len(warnings) != 1+maxOfSort+1 {
		t.Fatalf("%d warnings:\n%s", len(warnings), warnings)
	}
	if last := warnings[len(warnings)-1].Message; last != "80 more methods that are not registered are not named here" {
		t.Errorf("at the end: %s", last)
	}
	if !strings.Contains(warnings.Error(), `service "s"`) || warnings[len(warnings)-2].Location != "routes[19]" {
		t.Errorf("got\n%s", warnings)
	}
}

// TestWarningsHaveAnEnd: routes that differ in header fields only are all compared with each other, up to a limit.
func TestWarningsHaveAnEnd(t *testing.T) {
	var edits []Edit
	for i := range 100 { // 4,950 pairs
		r := answer(fmt.Sprint("r", i), "/")
		r.Headers = []*configv1.HeaderMatch{{Name: "X-Tenant", Match: &configv1.HeaderMatch_Exact{Exact: fmt.Sprint(i)}}}
		edits = append(edits, put(r))
	}
	if got := mustPlan(t, Empty(), edits...).warnings(1000).Error(); !strings.Contains(got, "not every route was looked at") {
		t.Errorf("got %q", got)
	}
}

func BenchmarkWarnings(b *testing.B) {
	edits := []Edit{put(service("s")), put(cors("c")), put(&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"c"}})}
	for i := range 40_000 {
		r := &configv1.Route{Name: fmt.Sprint("r", i), Path: fmt.Sprintf("/team%d/api/v%d/*", i%200, i), ServiceId: "s",
			PipelineId: "p"}
		if i%2 == 0 {
			r.Path, r.Hosts = "/*", []string{fmt.Sprintf("h%d.example", i)}
		}
		edits = append(edits, put(r))
	}
	all := mustPlan(b, Empty(), edits...)
	one := mustPlan(b, all.Config, put(answer("another", "/another/*")))
	for name, p := range map[string]*Plan{"all": all, "one": one} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p.Warnings()
			}
		})
	}
}
