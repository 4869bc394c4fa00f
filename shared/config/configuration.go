package config

import (
	"fmt"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/middleware"
)

// checkConfiguration checks what no resource can be blamed for alone: removed resources that others refer to, pipelines
// and their middleware, timeouts of pipelines under their policies, and a result that lost most of its routes.
func (p *planner) checkConfiguration(next *Config, changes []Change, at map[location]string) error {
	if err := p.checkRemoved(next, changes); err != nil {
		return err
	}
	touched := touchedBy(next, changes)
	for id := range touched[Pipeline] {
		if e := next.ByID(Pipeline, id); e != nil {
			p.checkPipeline(next, e, at)
		}
	}
	p.checkCalled(next, touched, at)
	p.checkTimeouts(next, touched, at)
	p.checkConnect(next, touched, at)
	p.checkPathOptions(next, touched, at)
	p.checkGlobalPolicies(next, touched, at)
	p.checkServing(next, changes, at)
	p.checkServiceCertificates(next, changes, at)
	// Whoever removes a single resource knows what it does.
	if lost, of := LostRoutes(p.base, next); lost > 0 && !p.opts.AllowShrink && (of >= GuardedRoutes || p.isBulk()) {
		which := fmt.Sprintf("%d of %d", lost, of)
		if lost == of {
			which = fmt.Sprintf("all %d", of)
		}
		p.problems.add(0, "", "", "", "", "this removes %s routes; allow_shrink (--allow-shrink) says that it is "+
			"meant", which)
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
	for _, k := range Kinds() {
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

// touchedBy returns the ids of the pipelines whose content changed, directly or through their middleware, and of the
// policies, services and routes that changed.
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
		if t, known := middleware.Lookup(mw.GetType()); m.GetParallel() && known && !t.InParallel(mw.GetConfig()) {
			p.problems.add(Pipeline, e.Name(), where, field, mw.GetName(), "is of type %s, which can't be in a parallel pipeline", t.Name)
		}
	}
}

// checkCalled finds middleware that calls a service by gRPC which does not speak it.
func (p *planner) checkCalled(next *Config, touched [lastKind + 1]map[string]bool, at map[location]string) {
	if len(touched[Middleware]) == 0 && len(touched[Service]) == 0 {
		return
	}
	for e := range next.All(Middleware) {
		m := e.Message.(*configv1.Middleware)
		if !middleware.CallsServices(m.GetType(), m.GetConfig()) {
			continue
		}
		middleware.ServiceReferences(m.GetType(), m.GetConfig(), func(field string, id *string) {
			svc := next.ByID(Service, *id)
			if svc == nil || !touched[Middleware][e.ID()] && !touched[Service][*id] {
				return
			}
			switch protocol := svc.Message.(*configv1.Service).GetProtocol(); protocol {
			case "grpc", "grpcs", "h2c":
			default:
				p.problems.add(Middleware, e.Name(), at[location{Middleware, e.ID()}], field, svc.Name(),
					"is called by gRPC, which its protocol %q does not carry: it has to be grpc, grpcs or h2c", protocol)
			}
		})
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
