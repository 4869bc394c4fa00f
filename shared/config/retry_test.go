package config

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestRetriesMerge(t *testing.T) {
	service := &configv1.Policy{Retry: &configv1.RetryPolicy{
		Attempts: 4, On: []string{"5xx", "retriable_statuses"}, RetriableStatuses: []uint32{429, 599},
		Backoff: &configv1.RetryBackoff{Base: "10ms", Max: "1s"}, BudgetPercent: proto.Uint32(0),
	}, DeadlineHeader: "X-Time", ResponseHeaderTimeout: "3s"}
	route := &configv1.Policy{
		Retry: &configv1.RetryPolicy{Backoff: &configv1.RetryBackoff{Base: "20ms"}, AnyMethod: proto.Bool(true)},
		Hedge: &configv1.HedgePolicy{Quantile: proto.Float64(0.9)}, AcceptDeadline: proto.Bool(true),
	}
	r := RetriesOf(route, service)
	if r.Attempts != 4 || r.On != Retry5xx|RetryStatuses || !r.Status(429) || !r.Status(599) || r.Status(400) ||
		r.Status(200) {
		t.Errorf("of the service: %+v", r)
	}
	if r.BackoffBase != 20*time.Millisecond || r.BackoffMax != time.Second || !r.AnyMethod || r.BudgetPercent != 0 {
		t.Errorf("of both: %+v", r)
	}
	if !r.Hedges() || r.HedgeAttempts != 2 || r.HedgeDelay != 0 || r.HedgeQuantile != 0.9 {
		t.Errorf("of the route: %+v", r)
	}
	if l := LimitsOf(route, service); l.DeadlineHeader != "X-Time" || !l.AcceptDeadline || l.HeadTimeout != 3*time.Second {
		t.Errorf("limits: %+v", l)
	}
	for name, p := range map[string]*configv1.Policy{
		"no policy": nil, "another policy": {Timeout: "1s"},
		"one attempt": {Retry: &configv1.RetryPolicy{Attempts: 1}},
		"no hedge":    {Hedge: &configv1.HedgePolicy{Delay: "1s", Attempts: 1}},
	} {
		if r := RetriesOf(p, nil); r != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	r = RetriesOf(nil, &configv1.Policy{Retry: &configv1.RetryPolicy{RespectRetryAfter: proto.Bool(false)}})
	want := Retries{
		Attempts: 2, On: defaultRetryOn, BackoffBase: 25 * time.Millisecond, BackoffMax: 250 * time.Millisecond,
		MaxRetryAfter: -1, BudgetPercent: 20, MinPerSecond: 10, KeptBytes: 64 << 10, HedgeAttempts: 1,
	}
	if r.Methods != nil || r.statuses != want.statuses {
		t.Errorf("%+v", r)
	}
	if r.Methods = nil; r.Attempts != want.Attempts || r.On != want.On || r.BackoffBase != want.BackoffBase ||
		r.BackoffMax != want.BackoffMax || r.MaxRetryAfter != want.MaxRetryAfter || r.BudgetPercent != 20 ||
		r.MinPerSecond != 10 || r.KeptBytes != want.KeptBytes || r.Hedges() {
		t.Errorf("the defaults are %+v, want %+v", *r, want)
	}
}

// TestRetriesThatBelongTogether: what a policy of a route's says of methods holds, whatever its service's does, and
// fields that stand alone do what they say.
func TestRetriesThatBelongTogether(t *testing.T) {
	merged := func(route, service *configv1.RetryPolicy) *Retries {
		return RetriesOf(&configv1.Policy{Retry: route}, &configv1.Policy{Retry: service})
	}
	anything, get := &configv1.RetryPolicy{AnyMethod: proto.Bool(true)}, &configv1.RetryPolicy{Methods: []string{"GET"}}
	if r := merged(get, anything); r.AnyMethod || len(r.Methods) != 1 {
		t.Errorf("a route that retries only GET: %+v", r)
	}
	if r := merged(anything, get); !r.AnyMethod {
		t.Errorf("a route that retries everything: %+v", r)
	}
	if r := merged(&configv1.RetryPolicy{Attempts: 3}, get); len(r.Methods) != 1 {
		t.Errorf("a route that says nothing of methods: %+v", r)
	}
	short := &configv1.RetryPolicy{Backoff: &configv1.RetryBackoff{Max: "5ms"}}
	if r := merged(short, nil); r.BackoffMax != 5*time.Millisecond {
		t.Errorf("a wait of 5ms at most: %s", r.BackoffMax)
	}
	status := &configv1.RetryPolicy{RetriableStatuses: []uint32{429}}
	if r := merged(status, nil); !r.On.Has(RetryStatuses) || !r.On.Has(RetryReset) {
		t.Errorf("a status beside the defaults: %v", r.On)
	}
}

func TestRetriesValidation(t *testing.T) {
	retry := func(m *configv1.RetryPolicy) *configv1.Policy { return &configv1.Policy{Retry: m} }
	hedge := func(m *configv1.HedgePolicy) *configv1.Policy { return &configv1.Policy{Hedge: m} }
	for _, c := range []struct {
		name  string
		m     *configv1.Policy
		field string // of the only problem; empty: there is none
		want  string
	}{
		{
			"every condition",
			retry(&configv1.RetryPolicy{Attempts: 10, On: RetryReasons(), RetriableStatuses: []uint32{400, 599}}),
			"", "",
		},
		{"nothing", retry(&configv1.RetryPolicy{}), "", ""},
		{"too many attempts", retry(&configv1.RetryPolicy{Attempts: 11}), "retry.attempts", "from 0 to 10"},
		{
			"Envoy's name",
			retry(&configv1.RetryPolicy{On: []string{"connect-failure"}}),
			"retry.on[0]", `did you mean "connect_failure"`,
		},
		{"twice", retry(&configv1.RetryPolicy{On: []string{"5xx", "5xx"}}), "retry.on[1]", "is there twice"},
		{
			"a good status",
			retry(&configv1.RetryPolicy{RetriableStatuses: []uint32{200}}),
			"retry.retriable_statuses[0]", "from 400 to 599",
		},
		{
			"statuses that do not hold", retry(&configv1.RetryPolicy{On: []string{"5xx"}, RetriableStatuses: []uint32{429}}),
			"retry.retriable_statuses", `names "retriable_statuses"`,
		},
		{
			"no duration",
			retry(&configv1.RetryPolicy{PerTryTimeout: "1"}),
			"retry.per_try_timeout", "is no duration",
		},
		{
			"max below base", retry(&configv1.RetryPolicy{Backoff: &configv1.RetryBackoff{Base: "1s", Max: "10ms"}}),
			"retry.backoff.max", "is below base 1s",
		},
		{
			"budget",
			retry(&configv1.RetryPolicy{BudgetPercent: proto.Uint32(101)}),
			"retry.budget_percent", "from 0 to 100",
		},
		{
			"body",
			retry(&configv1.RetryPolicy{MaxBodyBytes: proto.Uint32(16<<20 + 1)}),
			"retry.max_body_bytes", "from 0 to 16777216",
		},
		{
			"method in lower case",
			retry(&configv1.RetryPolicy{Methods: []string{"post"}}),
			"retry.methods[0]", `has to be "POST"`,
		},
		{
			"CONNECT",
			retry(&configv1.RetryPolicy{Methods: []string{"CONNECT"}}),
			"retry.methods[0]", "opens a tunnel",
		},
		{
			"methods and any", retry(&configv1.RetryPolicy{Methods: []string{"POST"}, AnyMethod: proto.Bool(true)}),
			"retry.methods", "can't be together with any_method",
		},
		{"hedge", hedge(&configv1.HedgePolicy{Delay: "100ms", Quantile: proto.Float64(0.95), Attempts: 5}), "", ""},
		{"hedge without a word", hedge(&configv1.HedgePolicy{}), "hedge", "says nothing"},
		{
			"hedge of everything",
			hedge(&configv1.HedgePolicy{Quantile: proto.Float64(1)}),
			"hedge.quantile", "from 0.5 to 0.999",
		},
		{
			"too many hedges",
			hedge(&configv1.HedgePolicy{Delay: "1s", Attempts: 6}),
			"hedge.attempts", "from 0 to 5",
		},
		{
			"a field of the gateway's", &configv1.Policy{DeadlineHeader: "Client-Cert"},
			"deadline_header", "means something else",
		},
		{"a field for the deadline", &configv1.Policy{DeadlineHeader: "X-Request-Timeout"}, "", ""},
		{"no field", &configv1.Policy{DeadlineHeader: "X Y"}, "deadline_header", "name of a field"},
		{
			"a field with a meaning",
			&configv1.Policy{DeadlineHeader: "Content-Length"},
			"deadline_header", "means something else",
		},
	} {
		var found Problems
		(&checker{problems: &found, kind: Policy, name: "p"}).policy(c.m)
		switch {
		case c.field == "" && len(found) == 0:
		case len(found) != 1 || found[0].Field != c.field || !strings.Contains(found[0].Message, c.want):
			t.Errorf("%s: %v", c.name, found)
		}
	}
}
