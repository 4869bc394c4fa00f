package config

import (
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func asking(t *testing.T, name, mode string, hosts ...string) *configv1.Certificate {
	cert, key := selfSigned(t, hosts...)
	m := &configv1.Certificate{Name: name, Hosts: hosts, CertPem: cert, KeyPem: key}
	if mode != "" {
		m.ClientAuth = &configv1.ClientAuth{Mode: mode, CaPem: cert}
	}
	return m
}

func byDefault(m *configv1.Certificate) *configv1.Certificate {
	m.Default = true
	return m
}

// openWarnings returns the warnings on routes that can be reached without a client certificate.
func openWarnings(p *Plan) (list []string) {
	for _, w := range p.Warnings() {
		if w.Kind == Route && w.Field == "hosts" {
			list = append(list, w.String())
		}
	}
	return list
}

func TestWaysAroundClientCertificatesAreReported(t *testing.T) {
	for _, c := range []struct {
		name         string
		certificates []*configv1.Certificate
		hosts        []string
		want         string // in the warning; empty: none
	}{
		{"nothing is required", []*configv1.Certificate{asking(t, "c", "", "a.test")}, nil, ""},
		{"optional is no demand", []*configv1.Certificate{asking(t, "c", "optional", "a.test")}, nil, ""},
		{"any host", []*configv1.Certificate{asking(t, "c", "required", "a.test")}, nil, `as any host that no certificate names, though certificate "c" requires one as "a.test"`},
		{"any host, and the default asks", []*configv1.Certificate{byDefault(asking(t, "c", "required", "a.test"))}, nil, ""},
		{"any host, the default asks and another does not", []*configv1.Certificate{byDefault(asking(t, "c", "required", "a.test")), asking(t, "d", "", "b.test")}, nil, `as "b.test"`},
		{"any host, the default asks and another may", []*configv1.Certificate{byDefault(asking(t, "c", "required", "a.test")), asking(t, "d", "optional", "b.test")}, nil, `as "b.test"`},
		{"its host alone", []*configv1.Certificate{asking(t, "c", "required", "a.test")}, []string{"A.test."}, ""},
		{"another host alone", []*configv1.Certificate{asking(t, "c", "required", "a.test")}, []string{"b.test"}, ""},
		{"its host and another", []*configv1.Certificate{asking(t, "c", "required", "a.test")}, []string{"a.test", "b.test"}, `as "b.test"`},
		{"its host and the default's", []*configv1.Certificate{asking(t, "c", "required", "a.test"), byDefault(asking(t, "d", "required", "d.test"))}, []string{"a.test", "b.test"}, ""},
		{"a wildcard over its host", []*configv1.Certificate{asking(t, "c", "required", "a.shop.test")}, []string{"*.shop.test"}, `as "*.shop.test", though certificate "c" requires one as "a.shop.test"`},
		{"the same wildcard", []*configv1.Certificate{asking(t, "c", "required", "*.shop.test")}, []string{"*.shop.test"}, ""},
		{"a deeper wildcard", []*configv1.Certificate{asking(t, "c", "required", "*.shop.test")}, []string{"*.b.shop.test", "x.y.shop.test"}, ""},
		{"a wider wildcard", []*configv1.Certificate{asking(t, "c", "required", "*.b.shop.test")}, []string{"*.shop.test"}, `as "*.shop.test"`},
		{"a host under it that asks nothing", []*configv1.Certificate{asking(t, "c", "required", "*.shop.test"), asking(t, "d", "", "www.shop.test")}, []string{"*.shop.test"}, `as "www.shop.test"`},
		{"a host beside it that asks nothing", []*configv1.Certificate{asking(t, "c", "required", "*.shop.test"), asking(t, "d", "", "www.shop.test")}, []string{"b.shop.test"}, ""},
		{"the name that the wildcard leaves out", []*configv1.Certificate{asking(t, "c", "required", "*.shop.test")}, []string{"shop.test", "*.shop.test"}, `as "shop.test"`},
	} {
		edits := []Edit{put(&configv1.Route{Name: "r", Path: "/*", Hosts: c.hosts, DirectResponse: &configv1.DirectResponse{}})}
		for _, m := range c.certificates {
			edits = append(edits, put(m))
		}
		got := openWarnings(mustPlan(t, Empty(), edits...))
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestWhatOpensRoutesIsReported(t *testing.T) {
	route := &configv1.Route{Name: "r", Path: "/*", Hosts: []string{"a.test"}, DirectResponse: &configv1.DirectResponse{}}
	asks, open := asking(t, "c", "required", "a.test"), asking(t, "d", "", "b.test")
	base := mustPlan(t, Empty(), put(route), put(asks), put(open)).Config
	exact := asking(t, "exact", "", "a.test")
	for _, c := range []struct {
		name string
		base *Config
		edit Edit
		want int
	}{
		{"the certificate goes", base, Edit{Kind: Certificate, Delete: "c"}, 1},
		{"it asks no more", base, put(asking(t, "c", "", "a.test")), 1},
		{"it asks less", base, put(asking(t, "c", "optional", "a.test")), 1},
		{"it is for another host", base, put(asking(t, "c", "required", "z.test")), 1},
		{"another goes", base, Edit{Kind: Certificate, Delete: "d"}, 0},
		{"the route goes", base, Edit{Kind: Route, Delete: "r"}, 0},
		{"a certificate without client_auth for a host of a wildcard", mustPlan(t, Empty(), put(route), put(asking(t, "w", "required", "*.test"))).Config, put(exact), 1},
		{"a redirect", mustPlan(t, Empty(), put(asks)).Config, put(&configv1.Route{Name: "s", Path: "/*", Redirect: &configv1.Redirect{Path: "/x"}}), 0},
		{"an answer to a challenge", mustPlan(t, Empty(), put(asks)).Config, put(&configv1.Route{Name: "s", Path: ChallengePath + "x", DirectResponse: &configv1.DirectResponse{}}), 0},
	} {
		if got := openWarnings(mustPlan(t, c.base, c.edit)); len(got) != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
