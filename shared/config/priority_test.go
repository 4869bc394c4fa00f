package config

import (
	"errors"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestPrioritiesAreValidated(t *testing.T) {
	many := map[string]string{}
	for _, n := range manyNames(65) {
		many[n] = "low"
	}
	for _, c := range []struct {
		name  string
		put   Message
		field string // with a problem; empty: none
	}{
		{"a route", &configv1.Route{
			Name: "r", Path: "/*", DirectResponse: &configv1.DirectResponse{}, RequestPriority: "critical",
		}, ""},
		{"no priority", &configv1.Route{
			Name: "r", Path: "/*", DirectResponse: &configv1.DirectResponse{}, RequestPriority: "urgent",
		}, "request_priority"},
		{"a policy", &configv1.Policy{
			Name: "p", RequestPriority: "low", GroupPriorities: map[string]string{"a": "high"},
		}, ""},
		{"of no priority", &configv1.Policy{Name: "p", RequestPriority: "Low"}, "request_priority"},
		{"a group of none", &configv1.Policy{Name: "p", GroupPriorities: map[string]string{"a": ""}}, "group_priorities.a"},
		{"no group", &configv1.Policy{Name: "p", GroupPriorities: map[string]string{"A b": "low"}}, "group_priorities.A b"},
		{"too many", &configv1.Policy{Name: "p", GroupPriorities: many}, "group_priorities"},
	} {
		_, err := Empty().Plan([]Edit{put(c.put)}, options())
		var ps Problems
		errors.As(err, &ps)
		if c.field == "" && err != nil || c.field != "" && (len(ps) != 1 || ps[0].Field != c.field) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestPriorityOfARequest(t *testing.T) {
	service := &configv1.Policy{RequestPriority: "low", GroupPriorities: map[string]string{"a": "high", "b": "critical"}}
	l := LimitsOf(&configv1.Policy{RequestPriority: "high"}, service)
	if got := PriorityOf(&configv1.Route{}, &l); got != PriorityHigh {
		t.Errorf("the route's policy: %s", got)
	}
	if got := PriorityOf(&configv1.Route{RequestPriority: "normal"}, &l); got != PriorityNormal {
		t.Errorf("the route's own: %s", got)
	}
	if got := LimitsOf(nil, nil); got.Priority != PriorityNormal || got.ByGroup.First(PriorityLow) != PriorityLow {
		t.Errorf("without policies: %+v", got)
	}
	for _, c := range []struct {
		groups []string
		want   Priority
	}{
		{nil, PriorityLow}, {[]string{"x"}, PriorityLow}, {[]string{"a"}, PriorityHigh},
		{[]string{"b", "x", "a"}, PriorityCritical},
	} {
		if got := l.ByGroup.Of(c.groups, PriorityLow); got != c.want {
			t.Errorf("%v: %s, want %s", c.groups, got, c.want)
		}
	}
	if got := l.ByGroup.First(PriorityLow); got != PriorityCritical {
		t.Errorf("the first of all: %s", got)
	}
}
