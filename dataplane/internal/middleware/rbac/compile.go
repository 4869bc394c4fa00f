package rbac

import (
	"fmt"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pathrule"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// refusedBy is the fact that tells which rule has refused a request, for the access log.
const refusedBy = exchange.FactKey[string]("rbac_rule")

// rule is what is looked at of a rule once its place in the sets is known.
type rule struct {
	scopes    names  // of which it needs one, or all
	challenge string // RFC 6750 section 3.1; empty: nothing that a client could ask for
	decided   *telemetry.Counter
	fact      exchange.Fact
}

// rules are compiled rules: each is a bit of the sets, by its place.
type rules struct {
	list  []rule
	words int // of a set that are used

	allow, deny set
	allows      bool // there are allow rules
	open        set  // rules about everybody

	groups, consumers table
	methods           map[string]*set // rules that name it, with those of any
	anyMethod         set
	paths             *pathrule.Patterns // nil: no rule has paths
	anyPath           set

	byDefault struct{ allowed, denied, unauthenticated *telemetry.Counter }
}

func compile(s *middlewarev1.Rbac, metrics *telemetry.Set) (*rules, error) {
	settings := s.GetRules()
	if len(settings) > maxRules {
		return nil, fmt.Errorf("%d rules; %d are allowed", len(settings), maxRules)
	}
	r := &rules{list: make([]rule, len(settings)), words: (len(settings) + 63) / 64, methods: map[string]*set{}}
	decisions := func(name, result string) *telemetry.Counter {
		return metrics.Counter("decisions_total",
			"Requests that were decided about, by the rule that did: allowed, denied, or unauthenticated where whoever "+
				"sends them might be allowed. The rule is \"default\" where none applied.", "rule", name, "result", result)
	}
	d := &r.byDefault
	d.allowed, d.denied = decisions("default", "allowed"), decisions("default", "denied")
	d.unauthenticated = decisions("default", "unauthenticated")
	var patterns []string
	var numbers []int
	for i, m := range settings {
		name, result := m.GetName(), "allowed"
		if name == "" {
			name = fmt.Sprintf("rules[%d]", i)
		}
		switch m.GetEffect() {
		case "", "allow":
			r.allow.add(i)
			r.allows = true
		case "deny":
			r.deny.add(i)
			result = "denied"
		default:
			return nil, fmt.Errorf("rules[%d].effect: %q", i, m.GetEffect())
		}
		r.list[i] = rule{
			scopes: namesOf(m.GetScopes()), challenge: insufficient(m.GetScopes()),
			decided: decisions(name, result), fact: refusedBy.Fact(name),
		}
		r.groups.add(i, m.GetGroups())
		r.consumers.add(i, m.GetConsumers())
		if len(m.GetGroups())+len(m.GetConsumers())+len(m.GetScopes()) == 0 {
			r.open.add(i)
		}
		r.method(i, m.GetMethods())
		if len(m.GetPaths()) == 0 {
			r.anyPath.add(i)
		}
		for _, path := range m.GetPaths() {
			patterns, numbers = append(patterns, path), append(numbers, i)
		}
	}
	for _, set := range r.methods {
		set.or(&r.anyMethod, r.words)
	}
	var err error
	r.paths, err = pathrule.Compile(patterns, numbers, s.GetIgnoreCase())
	return r, err
}

func (r *rules) method(i int, methods []string) {
	any := len(methods) == 0
	for _, m := range methods {
		any = any || m == "*"
	}
	if any {
		r.anyMethod.add(i)
		return
	}
	for _, m := range methods {
		if r.methods[m] == nil {
			r.methods[m] = &set{}
		}
		r.methods[m].add(i)
	}
}

// insufficient returns the challenge for those who lack a scope of a rule (RFC 6750 section 3.1).
func insufficient(scopes []string) string {
	var plain []string
	for _, s := range scopes {
		if !strings.HasSuffix(s, "*") {
			plain = append(plain, s)
		}
	}
	if len(plain) == 0 {
		return `Bearer error="insufficient_scope"`
	}
	return `Bearer error="insufficient_scope", scope="` + strings.Join(plain, " ") + `"`
}
