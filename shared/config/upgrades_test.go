package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestUpgradesMerge(t *testing.T) {
	service := &configv1.Policy{Upgrades: []string{"a", "b"}, StreamIdleTimeout: "2m"}
	for name, c := range map[string]struct {
		route *configv1.Policy
		want  []string
		idle  time.Duration
	}{
		"of the service": {nil, []string{"a", "b"}, 2 * time.Minute},
		"overridden":     {&configv1.Policy{Upgrades: []string{"c"}, StreamIdleTimeout: "1s"}, []string{"c"}, time.Second},
		"none":           {&configv1.Policy{Upgrades: []string{NoUpgrades}}, []string{}, 2 * time.Minute},
	} {
		got := LimitsOf(c.route, service)
		if d := cmp.Diff(c.want, got.Upgrades); d != "" || got.StreamIdleOr() != c.idle {
			t.Errorf("%s: %s, idle %s", name, d, got.StreamIdleOr())
		}
	}
	if l := LimitsOf(nil, nil); l.StreamIdleOr() != DefaultStreamIdleTimeout {
		t.Errorf("without a policy: %s", l.StreamIdleOr())
	}
}

func TestUpgradesValidation(t *testing.T) {
	for _, c := range []struct {
		list []string
		want string // of the only problem; empty: there is none
	}{
		{[]string{"websocket", "SPDY/3.1"}, ""},
		{[]string{"none"}, ""},
		{[]string{"connect"}, ""},
		{[]string{"websocket", "CONNECT"}, ""},
		{[]string{"connect", "Connect"}, "is there twice"},
		{[]string{"none", "connect"}, "can't be together with others"},
		{[]string{"connect/1.1"}, "has a version"},
		{[]string{"none", "websocket"}, "can't be together with others"},
		{[]string{"h2c"}, "spoken by the gateway itself"},
		{[]string{"HTTP/2.0"}, "spoken by the gateway itself"},
		{[]string{"a b"}, "has to be a protocol"},
		{[]string{"a,b"}, "has to be a protocol"},
		{[]string{"a", "A"}, "is there twice"},
		{strings.Split("abcdefghijklmnopq", ""), "has 17 entries"},
	} {
		var found Problems
		(&checker{problems: &found, kind: Policy, name: "p"}).upgrades(c.list)
		switch {
		case c.want == "" && len(found) == 0:
		case len(found) != 1 || c.want == "" || !strings.Contains(found[0].Message, c.want):
			t.Errorf("%v: %v", c.list, found)
		}
	}
}
