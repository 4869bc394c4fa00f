package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/match"
	"gateway.internal/shared/middleware"
)

// checkWhole checks what no resource can be blamed for alone: removed resources that others refer to, pipelines and their
// middleware, timeouts of pipelines under their policies, and a result that lost most of its routes.
func (p *planner) checkWhole(next *Config, changes []Change) error {
	if err := p.checkRemoved(next, changes); err != nil {
		return err
	}
	at := p.locations()
	touched := touchedBy(next, changes)
	for id := range touched[Pipeline] {
		if e := next.ByID(Pipeline, id); e != nil {
			p.checkPipeline(next, e, at)
		}
	}
	p.checkTimeouts(next, touched, at)
	p.checkConnect(next, touched, at)
	p.checkPathOptions(next, touched, at)
	p.checkGlobalPolicies(next, touched, at)
	p.checkServing(next, changes, at)
	p.checkShownToServices(next, changes, at)
	before, after := p.base.Len(Route), next.Len(Route)
	if !p.opts.AllowShrink && before >= 10 && after*2 < before {
		p.problems.add(0, "", "", "", "", "this removes %d of %d routes; allow_shrink (--allow-shrink) says that it is meant", before-after, before)
	}
	if !p.opts.AllowShrink && before > 0 && after == 0 && before < 10 && p.isBulk() {
		p.problems.add(0, "", "", "", "", "this removes all %d routes; allow_shrink (--allow-shrink) says that it is meant", before)
	}
	return nil
}

// isBulk tells an apply from the removal of a single resource, whose author knows what it does.
func (p *planner) isBulk() bool { return len(p.order) > 1 }

type location struct {
	kind Kind
	id   string
}

// locations tells where in the request a resource stands.
func (p *planner) locations() map[location]string {
	at := map[location]string{}
	for _, s := range p.order {
		if s.after != nil {
			at[location{s.edit.Kind, s.after.GetId()}] = s.edit.Location
		}
	}
	return at
}

func (p *planner) checkRemoved(next *Config, changes []Change) error {
	for _, k := range []Kind{Policy, Certificate, Middleware, Pipeline, Service} {
		removed := map[string]bool{}
		for _, ch := range changes {
			if ch.Kind == k && ch.After == nil {
				removed[ch.ID()] = true
			}
		}
		if len(removed) == 0 {
			continue
		}
		by := next.referrers(k, removed)
		for _, s := range p.order {
			if s.after != nil || s.edit.Kind != k || len(by[s.before.ID()]) == 0 {
				continue
			}
			users := by[s.before.ID()]
			err := &InUse{Kind: k, Name: s.before.Name()}
			for i, e := range users {
				if i == 10 {
					err.More = len(users) - i
					break
				}
				err.By = append(err.By, fmt.Sprintf("%s %q", e.Kind, e.Name()))
			}
			if len(p.order) == 1 {
				return err
			}
			p.problems.add(k, err.Name, s.edit.Location, "", "", "can't be removed: %s", err)
		}
	}
	return nil
}

// touchedBy returns the ids of the pipelines whose content changed, directly or through their middleware, and of the policies,
// services and routes that changed.
func touchedBy(next *Config, changes []Change) (touched [lastKind + 1]map[string]bool) {
	for _, k := range Kinds() {
		touched[k] = map[string]bool{}
	}
	for _, ch := range changes {
		if ch.After != nil {
			touched[ch.Kind][ch.ID()] = true
		}
	}
	if len(touched[Middleware]) > 0 {
		for e := range next.All(Pipeline) {
			for _, id := range e.Message.(*configv1.Pipeline).GetMiddlewareIds() {
				if touched[Middleware][id] {
					touched[Pipeline][e.ID()] = true
				}
			}
		}
	}
	return touched
}

func (p *planner) checkPipeline(next *Config, e *Entry, at map[location]string) {
	m := e.Message.(*configv1.Pipeline)
	where := at[location{Pipeline, e.ID()}]
	orders := map[uint32]string{}
	for i, id := range m.GetMiddlewareIds() {
		step := next.ByID(Middleware, id)
		if step == nil {
			continue
		}
		mw := step.Message.(*configv1.Middleware)
		field := fmt.Sprintf("middleware_ids[%d]", i)
		if other, taken := orders[mw.GetOrder()]; taken {
			p.problems.add(Pipeline, e.Name(), where, field, mw.GetName(), "has the order %d, as %q has: orders are unique in a pipeline", mw.GetOrder(), other)
		}
		orders[mw.GetOrder()] = mw.GetName()
		if t, known := middleware.Lookup(mw.GetType()); m.GetParallel() && known && !t.Parallel {
			p.problems.add(Pipeline, e.Name(), where, field, mw.GetName(), "is of type %s, which can't be in a parallel pipeline", t.Name)
		}
	}
}

// checkTimeouts finds pipelines that may take longer than a policy that they run with allows.
func (p *planner) checkTimeouts(next *Config, touched [lastKind + 1]map[string]bool, at map[location]string) {
	if len(touched[Policy]) == 0 && len(touched[Pipeline]) == 0 && len(touched[Service]) == 0 && len(touched[Route]) == 0 {
		return
	}
	var global []*Entry
	anyGlobal := false
	for e := range next.All(Pipeline) {
		if e.Message.(*configv1.Pipeline).GetGlobal() {
			global = append(global, e)
			anyGlobal = anyGlobal || touched[Pipeline][e.ID()]
		}
	}
	limited := false
	for e := range next.All(Policy) {
		limited = limited || e.Message.(*configv1.Policy).GetMaxTimeout() != ""
	}
	if !limited {
		return
	}
	for e := range next.All(Route) {
		r := e.Message.(*configv1.Route)
		for _, svc := range servicesOf(next, r) {
			affected := anyGlobal || touched[Route][e.ID()] || touched[Service][svc.GetId()] || touched[Policy][r.GetPolicyId()] ||
				touched[Policy][svc.GetPolicyId()] || touched[Pipeline][r.GetPipelineId()] || touched[Pipeline][svc.GetPipelineId()]
			if !affected {
				continue
			}
			limit := maxTimeoutOf(policyOf(next, r.GetPolicyId()), policyOf(next, svc.GetPolicyId()))
			if limit == 0 {
				continue
			}
			run := append([]*Entry{next.ByID(Pipeline, svc.GetPipelineId()), next.ByID(Pipeline, r.GetPipelineId())}, global...)
			for _, pl := range run {
				if pl == nil {
					continue
				}
				if ms := pl.Message.(*configv1.Pipeline).GetTimeoutMs(); time.Duration(ms)*time.Millisecond > limit {
					p.problems.add(Pipeline, pl.Name(), at[location{Pipeline, pl.ID()}], "timeout_ms", fmt.Sprint(ms),
						"is above the max_timeout %s of the policy that route %q runs with", limit, e.Name())
				}
			}
			if t := LimitsOf(policyOf(next, r.GetPolicyId()), policyOf(next, svc.GetPolicyId())).Timeout; t > limit {
				p.problems.add(Route, e.Name(), at[location{Route, e.ID()}], "policy_id", "",
					"comes with its service's policy to a timeout of %s, above the max_timeout of %s", t, limit)
			}
		}
	}
}

// servicesOf returns the services that a route leads to; one without fields where it leads to none.
func servicesOf(c *Config, r *configv1.Route) []*configv1.Service {
	var list []*configv1.Service
	add := func(id string) {
		if e := c.ByID(Service, id); e != nil {
			list = append(list, e.Message.(*configv1.Service))
		}
	}
	if r.GetServiceId() != "" {
		add(r.GetServiceId())
	}
	for _, b := range r.GetBackends() {
		add(b.GetServiceId())
	}
	if len(list) == 0 {
		list = append(list, &configv1.Service{})
	}
	return list
}

func policyOf(c *Config, id string) *configv1.Policy {
	if e := c.ByID(Policy, id); e != nil {
		return e.Message.(*configv1.Policy)
	}
	return nil
}

// maxShadowChecks bounds how many routes of one plan are tested for being reachable.
const maxShadowChecks = 200_000

// warnings finds what is allowed but probably not meant.
func warnings(base, next *Config, changes []Change, now time.Time) Problems {
	var w Problems
	table := next.Table()
	checked := 0
	for _, ch := range changes {
		switch m := ch.After.(type) {
		case *configv1.Route:
			if checked++; checked > maxShadowChecks || !m.GetEnabled() {
				continue
			}
			rule := table.ByID(m.GetId())
			if rule == nil {
				continue
			}
			warnMethods(&w, m)
			if rule.TakesConnect() && connectIsRefused(next, m) {
				w.add(Route, m.GetName(), "", "methods", "CONNECT", `is answered with 501: the policy's upgrades do not have "connect"`)
			}
			if by := table.Shadowed(rule); by != nil {
				w.add(Route, m.GetName(), "", "path", m.GetPath(), "can never match: route %q answers all that it could", by.Name)
			}
		case *configv1.Service:
			if len(m.GetEndpoints()) == 0 && m.GetDiscovery() == nil {
				w.add(Service, m.GetName(), "", "endpoints", "", "is empty: every request is answered with 503 NO_HEALTHY_ENDPOINTS")
			}
			if m.GetTls().GetInsecureSkipVerify() {
				w.add(Service, m.GetName(), "", "tls.insecure_skip_verify", "", "is on: anybody between the nodes and the endpoints can read and change everything")
			}
		case *configv1.Certificate:
			if len(m.GetHosts()) == 0 {
				w.add(Certificate, m.GetName(), "", "hosts", "", "is empty, and the certificate names no host either: it can only be shown to services, by tls.certificate_id")
				if m.GetClientAuth() != nil && !m.GetDefault() {
					w.add(Certificate, m.GetName(), "", "client_auth", "", "asks nobody for anything: the certificate has no hosts and is not the default")
				}
			}
			if m.GetAcme() != nil && m.GetCertPem() == "" {
				w.add(Certificate, m.GetName(), "", "acme", "", "has obtained nothing yet: a control plane with --acme does so, and until then clients of these hosts are refused or get another certificate that is for them")
				continue
			}
			if left := m.GetNotAfter().AsTime().Sub(now); left < 14*24*time.Hour {
				w.add(Certificate, m.GetName(), "", "cert_pem", "", "ends at %s", m.GetNotAfter().AsTime().Format(time.RFC3339))
			}
		}
	}
	w = append(w, openRoutes(base, next, changes)...)
	// A change may also take the requests of routes that did not change; looked for when there are few changes.
	if len(changes) <= 16 {
		w = append(w, newlyShadowed(next, changes)...)
	}
	return w
}

func newlyShadowed(next *Config, changes []Change) Problems {
	table := next.Table()
	var changed []*match.Rule
	for _, ch := range changes {
		if ch.Kind != Route || ch.After == nil {
			continue
		}
		if rule := table.ByID(ch.ID()); rule != nil {
			changed = append(changed, rule)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	found := table.ShadowedBy(changed)
	for _, rule := range changed { // those have been looked at
		delete(found, rule)
	}
	var w Problems
	for _, rule := range slices.SortedFunc(maps.Keys(found), func(a, b *match.Rule) int { return cmp.Compare(a.Name, b.Name) }) {
		e := rule.Value.(*Entry)
		if w.add(Route, e.Name(), "", "path", e.Message.(*configv1.Route).GetPath(), "can never match any more: route %q answers all that it could", found[rule].Name); len(w) == 20 {
			break
		}
	}
	return w
}
