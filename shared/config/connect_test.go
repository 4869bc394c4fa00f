package config

import (
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestConnectIsAllowedByTheWordAlone(t *testing.T) {
	policy := func(list ...string) *configv1.Policy { return &configv1.Policy{Upgrades: list} }
	for name, c := range map[string]struct {
		route, service *configv1.Policy
		want           bool
	}{
		"nothing said":              {nil, nil, false},
		"another protocol":          {policy("websocket"), nil, false},
		"none":                      {policy(NoUpgrades), policy(ConnectUpgrade), false},
		"of the service":            {nil, policy("connect"), true},
		"in capitals":               {policy("CONNECT"), nil, true},
		"overridden by the route's": {policy("websocket"), policy("connect"), false},
	} {
		if l := LimitsOf(c.route, c.service); l.AllowConnect() != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

// A route that is to let clients CONNECT, and that no CONNECT can match, is an error; one that names CONNECT in vain is
// worth a word.
func TestConnectRoutes(t *testing.T) {
	base := mustPlan(t, Empty(), put(service("s")), put(&configv1.Policy{Name: "plain"}), put(&configv1.Policy{Name: "tunnels", Upgrades: []string{"connect"}})).Config
	route := func(path, policy string, methods ...string) *configv1.Route {
		return &configv1.Route{Name: "r", Path: path, ServiceId: "s", PolicyId: policy, Methods: methods}
	}
	const never, refused = `route "r": path "/a/*" never matches a CONNECT`, "is answered with 501"
	for name, c := range map[string]struct {
		route         *configv1.Route
		fails, warned string
	}{
		"all is there":           {route("/*", "tunnels", "CONNECT"), "", ""},
		"another path":           {route("/a/*", "tunnels", "GET", "CONNECT"), never, ""},
		"not named":              {route("/a/*", "tunnels", "GET"), "", ""},
		"not allowed":            {route("/*", "plain", "CONNECT"), "", refused},
		"not allowed, by nobody": {route("/a/*", "", "CONNECT"), "", refused},
	} {
		plan, err := base.Plan([]Edit{put(c.route)}, options())
		switch {
		case (err != nil) != (c.fails != ""), err != nil && !strings.Contains(err.Error(), c.fails):
			t.Errorf("%s: %v", name, err)
		case err == nil && (len(plan.Warnings()) > 0) != (c.warned != ""), err == nil && c.warned != "" &&
			!strings.Contains(plan.Warnings()[0].Message, c.warned):
			t.Errorf("%s: %v", name, plan.Warnings())
		}
	}
	// The policy may come to allow it after the route, and then it is the route that is wrong.
	before := mustPlan(t, base, put(route("/a/*", "plain", "CONNECT"))).Config
	if _, err := before.Plan([]Edit{put(&configv1.Policy{Name: "plain", Upgrades: []string{"connect"}})}, options()); err == nil || !strings.Contains(err.Error(), never) {
		t.Errorf("a policy that comes to allow it: %v", err)
	}
}
