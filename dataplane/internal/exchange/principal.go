package exchange

import (
	"cmp"
	"maps"
	"slices"

	"gateway.internal/shared/fault"
)

// Principal is whom a request comes from, as a step has found out. It is immutable once it is an exchange's, since many
// may share it.
type Principal struct {
	// Consumer is the name of the client application; empty: it is none that the configuration knows.
	Consumer string
	// Groups and Scopes are what it belongs to, and what it may do.
	Groups, Scopes []string
	// Claims are what its token says: values as encoding/json has them.
	Claims map[string]any
	// Scheme is the authentication scheme that the request's credentials have come by, such as "Bearer" (RFC 9110 section
	// 11.1); empty: by none, as client certificates do.
	Scheme string
}

// With returns a principal that is both: the groups and scopes of p and o, their claims, of which o's hold where both
// have one, and o's scheme. The consumer is the one that either has; ok is false where they have different ones.
func (p *Principal) With(o *Principal) (both *Principal, ok bool) {
	both = &Principal{
		Consumer: cmp.Or(o.Consumer, p.Consumer), Scheme: cmp.Or(o.Scheme, p.Scheme),
		Groups: union(p.Groups, o.Groups), Scopes: union(p.Scopes, o.Scopes), Claims: o.Claims,
	}
	if len(p.Claims) > 0 {
		both.Claims = maps.Clone(p.Claims)
		maps.Copy(both.Claims, o.Claims)
	}
	return both, p.Consumer == "" || o.Consumer == "" || p.Consumer == o.Consumer
}

// Identify puts a principal on the exchange, together with whom an earlier step has found. It refuses the request where
// these are different consumers.
func (x *Exchange) Identify(p *Principal) Verdict {
	if before := x.Principal; before != nil && before != p {
		both, agree := before.With(p)
		if !agree {
			x.Fail(fault.Forbidden, "the request has credentials of two different consumers")
			return Stop
		}
		p = both
	}
	x.Principal = p
	return Continue
}

func union(a, b []string) []string {
	all := slices.Clip(a)
	for _, s := range b {
		if !slices.Contains(a, s) {
			all = append(all, s)
		}
	}
	return all
}

// Consumer returns the name of the client application that a step has identified; empty: none.
func (x *Exchange) Consumer() string {
	if x.Principal == nil {
		return ""
	}
	return x.Principal.Consumer
}
