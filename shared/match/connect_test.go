package match

import (
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// A rule for any method is not for CONNECT, and none is by its path alone.
func TestConnectHasToBeNamed(t *testing.T) {
	const all = "/*"
	for _, c := range []struct {
		route *configv1.Route
		want  bool
	}{
		{&configv1.Route{Path: all}, false},
		{&configv1.Route{Path: all, Method: "*"}, false},
		{&configv1.Route{Path: all, Methods: []string{"GET", "POST"}}, false},
		{&configv1.Route{Path: all, Method: "CONNECT"}, true},
		{&configv1.Route{Path: all, Methods: []string{"GET", "CONNECT"}}, true},
		{&configv1.Route{Path: all, Methods: []string{"*", "CONNECT"}}, true},
		{&configv1.Route{Path: all, Method: "connect"}, false},
		{&configv1.Route{Path: all, Method: "CONNECT", Hosts: []string{"other.example"}}, false},
		{&configv1.Route{Path: all, Method: "CONNECT", Hosts: []string{"*.example"}}, true},
		{&configv1.Route{Path: "/", Method: "CONNECT"}, false},
		{&configv1.Route{Path: "/{a}", Method: "CONNECT"}, false},
		{&configv1.Route{Path: "/a/*", Method: "CONNECT"}, false},
		{&configv1.Route{Path: "/a", Method: "CONNECT"}, false},
		{&configv1.Route{Path: "~/.*", Method: "CONNECT"}, false},
	} {
		r := rule(t, c.route)
		var p Params
		got := Compile([]*Rule{r}).Match(&Request{Method: "CONNECT", Host: "a.example:443"}, &p)
		if (got != nil) != c.want {
			t.Errorf("%v: matches is %v", c.route, got != nil)
		}
		if other := len(r.hosts) > 0 && r.hosts[0] == "other.example"; !other && (r.TakesConnect() && r.TakesNoPath()) != c.want {
			t.Errorf("%v: TakesConnect is %v, TakesNoPath %v", c.route, r.TakesConnect(), r.TakesNoPath())
		}
	}
}

// A rule for any method takes nothing away from one for CONNECT.
func TestConnectIsNotShadowed(t *testing.T) {
	tunnels := rule(t, &configv1.Route{Id: "1", Name: "tunnels", Path: "/*", Method: "CONNECT"})
	for methods, want := range map[string]string{"*": "", "GET": "", "CONNECT": "other"} {
		other := rule(t, &configv1.Route{Id: "2", Name: "other", Path: "/*", Method: methods, Priority: 1})
		if by := Compile([]*Rule{tunnels, other}).Shadowed(tunnels, unlimited()); name(by) != want {
			t.Errorf("by one for %s: %q", methods, name(by))
		}
	}
}
