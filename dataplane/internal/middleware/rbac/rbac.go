// Package rbac is the middleware type "rbac": it lets requests pass by rules about who sends them and what they ask
// for.
package rbac

import (
	"fmt"
	"math/bits"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	s, ok := settings.(*middlewarev1.Rbac)
	if !ok {
		return nil, fmt.Errorf("rbac: settings are a %T", settings)
	}
	r, err := compile(s, env.Metrics)
	if err != nil {
		return nil, fmt.Errorf("rbac: %w", err)
	}
	return &step{r}, nil
}

type step struct{ *rules }

// Response implements pipeline.Step.
func (*step) Response(*exchange.Exchange) {}

// Request decides. Where there is doubt about which path or method a service will take the request for, it goes against
// the client: deny rules apply to each reading of the path, and allow rules have to apply to all of them.
func (r *step) Request(x *exchange.Exchange) exchange.Verdict {
	var every, some set
	if !r.paths.Match(x, every[:r.words], some[:r.words]) {
		return r.refuse(x, nil)
	}
	every.or(&r.anyPath, r.words)
	some.or(&r.anyPath, r.words)
	var who set
	r.about(&who, x.Principal)
	method := r.methods[x.Request.Method]
	if method == nil {
		method = &r.anyMethod
	}
	if denied := r.denied(x, &some, &who, method); denied != nil {
		return r.refuse(x, denied)
	}
	if !r.allows {
		r.byDefault.allowed.Add(1)
		return exchange.Continue
	}
	var lacking *rule // would apply but for its scopes
	others := false   // rules apply to other clients
	for i := range r.words {
		candidates := r.allow[i] & every[i] & method[i]
		others = others || candidates&^r.open[i] != 0
		for left := candidates & who[i]; left != 0; left &= left - 1 {
			one := &r.list[i*64+bits.TrailingZeros64(left)]
			if len(one.scopes) == 0 || x.Principal != nil && one.scopes.all(x.Principal.Scopes) {
				one.decided.Add(1)
				return exchange.Continue
			}
			if lacking == nil {
				lacking = one
			}
		}
	}
	if x.Principal == nil && others {
		r.byDefault.unauthenticated.Add(1)
		return identity.Refuse(x, "this is for clients that say who they are")
	}
	v := r.refuse(x, nil)
	if lacking != nil && exchange.EqualFold(x.Principal.Scheme, "Bearer") {
		x.Response.Header.Add("WWW-Authenticate", lacking.challenge)
	}
	return v
}

// about finds the rules that are about a client, whatever scopes they need.
func (r *rules) about(who *set, p *exchange.Principal) {
	if p == nil {
		*who = r.open
		return
	}
	groups := r.groups.without
	groups.or(&r.groups.anybody, r.words)
	for _, g := range p.Groups {
		r.groups.find(&groups, g, r.words)
	}
	*who = r.consumers.without
	if p.Consumer != "" {
		who.or(&r.consumers.anybody, r.words)
		r.consumers.find(who, p.Consumer, r.words)
	}
	for i := range r.words {
		who[i] &= groups[i]
	}
}

// denied returns a deny rule that applies; nil: none does.
func (r *rules) denied(x *exchange.Exchange, paths, who, method *set) *rule {
	get := method
	if x.Request.Method == "HEAD" {
		if get = r.methods["GET"]; get == nil {
			get = method
		}
	}
	for i := range r.words {
		for left := r.deny[i] & paths[i] & who[i] & (method[i] | get[i]); left != 0; left &= left - 1 {
			one := &r.list[i*64+bits.TrailingZeros64(left)]
			if len(one.scopes) == 0 || one.scopes.any(x.Principal.Scopes) { // those about scopes are about no stranger
				return one
			}
		}
	}
	return nil
}

// refuse refuses by a rule; nil: since none allows the request.
func (r *rules) refuse(x *exchange.Exchange, by *rule) exchange.Verdict {
	x.Fail(fault.Forbidden, "this client may not do this")
	if by == nil {
		r.byDefault.denied.Add(1)
		return exchange.Stop
	}
	by.decided.Add(1)
	x.Put(by.fact)
	return exchange.Stop
}
