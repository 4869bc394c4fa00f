package config

import (
	"slices"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// ConnectUpgrade is the word for tunnels that clients open by CONNECT in a policy's upgrades. It is no protocol that a
// client may name.
const ConnectUpgrade = "connect"

// AllowConnect reports whether clients may open tunnels by CONNECT.
func (l *Limits) AllowConnect() bool {
	return slices.ContainsFunc(l.Upgrades, func(u string) bool { return strings.EqualFold(u, ConnectUpgrade) })
}

// checkConnect finds routes that let clients CONNECT and that no CONNECT can match.
func (p *planner) checkConnect(next *Config, touched [lastKind + 1]map[string]bool, at map[location]string) {
	if len(touched[Policy]) == 0 && len(touched[Service]) == 0 && len(touched[Route]) == 0 || !anyConnect(next) {
		return
	}
	table := next.Table()
	for e := range next.All(Route) {
		r := e.Message.(*configv1.Route)
		rule := table.ByID(e.ID())
		if rule == nil || !rule.TakesConnect() || rule.TakesNoPath() {
			continue
		}
		for _, svc := range servicesOf(next, r) {
			if !touched[Route][e.ID()] && !touched[Service][svc.GetId()] && !touched[Policy][r.GetPolicyId()] && !touched[Policy][svc.GetPolicyId()] {
				continue
			}
			if limits := limitsOf(next, r, svc); limits.AllowConnect() {
				p.problems.add(Route, e.Name(), at[location{Route, e.ID()}], "path", r.GetPath(),
					`never matches a CONNECT, which its methods and its policy's upgrades allow: there is no path then, which only "/*" stands for`)
				break
			}
		}
	}
}

// anyConnect reports whether any policy lets clients CONNECT: few do.
func anyConnect(c *Config) bool {
	for e := range c.All(Policy) {
		l := Limits{Upgrades: e.Message.(*configv1.Policy).GetUpgrades()}
		if l.AllowConnect() {
			return true
		}
	}
	return false
}

func limitsOf(c *Config, r *configv1.Route, svc *configv1.Service) Limits {
	return LimitsOf(policyOf(c, r.GetPolicyId()), policyOf(c, svc.GetPolicyId()))
}

// connectIsRefused reports whether a route names CONNECT and nothing allows it, for any of its services.
func connectIsRefused(c *Config, r *configv1.Route) bool {
	for _, svc := range servicesOf(c, r) {
		if limits := limitsOf(c, r, svc); !limits.AllowConnect() {
			return true
		}
	}
	return false
}
