package config

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestStickyAndCanariesAreValidated(t *testing.T) {
	two := func(sticky *configv1.Sticky) *configv1.Route {
		return &configv1.Route{Sticky: sticky, Backends: []*configv1.Backend{{ServiceId: "a"}, {ServiceId: "b"}}}
	}
	cookie := func(c *configv1.ClientCookie) *configv1.Route {
		return two(&configv1.Sticky{Key: &configv1.Sticky_Cookie{Cookie: c}})
	}
	canary := func(weight uint32, m *configv1.BackendMatch) *configv1.Route {
		return &configv1.Route{Backends: []*configv1.Backend{
			{ServiceId: "a", Weight: &weight}, {ServiceId: "b", Match: m},
		}}
	}
	for _, c := range []struct {
		name  string
		route *configv1.Route
		field string // with a problem; empty: none
	}{
		{"a cookie", cookie(&configv1.ClientCookie{
			Name: "b", Ttl: "9600h", Path: "/a", Domain: "a.test", SameSite: "strict",
		}), ""},
		{"no name", cookie(&configv1.ClientCookie{}), "sticky.cookie.name"},
		{"no token", cookie(&configv1.ClientCookie{Name: "a=b"}), "sticky.cookie.name"},
		{"longer than browsers keep it", cookie(&configv1.ClientCookie{Name: "b", Ttl: "9601h"}), "sticky.cookie.ttl"},
		{"another attribute", cookie(&configv1.ClientCookie{Name: "b", Path: "/a; Domain=b"}), "sticky.cookie.path"},
		{"a path of any length", cookie(&configv1.ClientCookie{
			Name: "b", Path: "/" + strings.Repeat("a", 256),
		}), "sticky.cookie.path"},
		{"a host's own", cookie(&configv1.ClientCookie{Name: "__Host-b", Path: "/"}), ""},
		{"a host's own below a path", cookie(&configv1.ClientCookie{Name: "__Host-b", Path: "/a"}), "sticky.cookie.name"},
		{"a host's own of a domain", cookie(&configv1.ClientCookie{
			Name: "__Host-b", Domain: "a.test",
		}), "sticky.cookie.name"},
		{"a pattern", cookie(&configv1.ClientCookie{Name: "b", Domain: "*.a.test"}), "sticky.cookie.domain"},
		{"a site", cookie(&configv1.ClientCookie{Name: "b", SameSite: "Lax"}), "sticky.cookie.same_site"},
		{"nothing", two(&configv1.Sticky{}), "sticky"},
		{"a field", two(&configv1.Sticky{Key: &configv1.Sticky_Header{Header: "X-A"}}), ""},
		{"no field", two(&configv1.Sticky{Key: &configv1.Sticky_Header{Header: "X A"}}), "sticky.header"},
		{"an address", two(&configv1.Sticky{Key: &configv1.Sticky_ClientIp{ClientIp: true}}), ""},
		{"no address", two(&configv1.Sticky{Key: &configv1.Sticky_ClientIp{}}), "sticky.client_ip"},
		{"no consumer", two(&configv1.Sticky{Key: &configv1.Sticky_Consumer{}}), "sticky.consumer"},
		{"one service", &configv1.Route{
			ServiceId: "a", Sticky: &configv1.Sticky{Key: &configv1.Sticky_Header{Header: "X-A"}},
		}, "sticky"},
		{"a canary", canary(1, &configv1.BackendMatch{
			Headers: []*configv1.HeaderMatch{{Name: "X"}}, Cookies: []*configv1.CookieMatch{{Name: "c"}},
			Consumers: []string{"c"}, Groups: []string{"g"}, Percent: proto.Float64(0.001),
		}), ""},
		{"no condition", canary(1, &configv1.BackendMatch{}), "backends[1].match"},
		{"no name of a field", canary(1, &configv1.BackendMatch{
			Headers: []*configv1.HeaderMatch{{}},
		}), "backends[1].match.headers[0].name"},
		{"no regex", canary(1, &configv1.BackendMatch{Cookies: []*configv1.CookieMatch{
			{Name: "c", Match: &configv1.CookieMatch_Regex{Regex: "("}},
		}}), "backends[1].match.cookies[0].regex"},
		{"no consumer's name", canary(1, &configv1.BackendMatch{
			Consumers: []string{"A B"},
		}), "backends[1].match.consumers[0]"},
		{"a group twice", canary(1, &configv1.BackendMatch{Groups: []string{"a", "a"}}), "backends[1].match.groups[1]"},
		{"too many", canary(1, &configv1.BackendMatch{Groups: manyNames(65)}), "backends[1].match.groups"},
		{"no share", canary(1, &configv1.BackendMatch{Percent: proto.Float64(0)}), "backends[1].match.percent"},
		{"too fine a share", canary(1, &configv1.BackendMatch{Percent: proto.Float64(0.0001)}), "backends[1].match.percent"},
		{"all", canary(0, &configv1.BackendMatch{Percent: proto.Float64(100)}), ""},
		{"nothing for the rest", canary(0, &configv1.BackendMatch{Percent: proto.Float64(99)}), "backends"},
		{"more than all", &configv1.Route{Backends: []*configv1.Backend{
			{ServiceId: "a", Match: &configv1.BackendMatch{Percent: proto.Float64(60)}},
			{ServiceId: "b", Match: &configv1.BackendMatch{Percent: proto.Float64(60)}},
		}}, "backends"},
		{"a cookie of the route", &configv1.Route{
			ServiceId: "a", Cookies: []*configv1.CookieMatch{{Name: ""}},
		}, "cookies[0].name"},
	} {
		c.route.Name, c.route.Path = "r", "/*"
		_, err := Empty().Plan([]Edit{
			put(&configv1.Service{Name: "a"}), put(&configv1.Service{Name: "b"}), put(c.route),
		}, options())
		var ps Problems
		errors.As(err, &ps)
		if c.field == "" && err != nil || c.field != "" && (len(ps) != 1 || ps[0].Field != c.field) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func manyNames(n int) (list []string) {
	for i := range n {
		list = append(list, "n"+strings.Repeat("x", i))
	}
	return list
}
