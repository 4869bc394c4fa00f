package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/match"
)

const (
	// maxOfSort is how many warnings of one sort are named; the others are counted.
	maxOfSort = 20
	// maxLooks bounds how many pairs of routes are compared for one being unreachable.
	maxLooks = 1_000_000
)

// Warnings returns what the plan allows but hardly anybody means, about what it changes and what that has a bearing
// on; by sort, of each the first 20 and the number of the others. It takes time in proportion to the number of
// resources, so it is not for where others wait to commit.
func (p *Plan) Warnings() Problems { return p.warnings(maxLooks) }

// warnings is Warnings with a limit of its own.
func (p *Plan) warnings(comparisons match.Comparisons) Problems {
	if len(p.Changes) == 0 {
		return ignoredOf(p.ignored)
	}
	w := &warner{base: p.base, next: p.Config, changes: p.Changes, touched: touchedBy(p.Config, p.Changes), at: p.at,
		now: p.now, counts: map[string]int{}}
	for _, ch := range p.Changes {
		if ch.After != nil {
			describe(ch.Kind).warn(w, ch.After.Message)
		}
	}
	w.preflights()
	w.openRoutes()
	w.cookies()
	if changed := w.changedRules(); len(changed) > 0 {
		w.unreachable(changed, comparisons)
		w.overtaken(changed)
	}
	for _, sort := range w.sorts {
		if n := w.counts[sort] - maxOfSort; n > 0 {
			w.list = append(w.list, Problem{Message: fmt.Sprintf("%d more %s are not named here", n, sort)})
		}
	}
	return append(hideTaken(w.list, w.resource), ignoredOf(p.ignored)...)
}

// ignoredOf names the first of the fields that were ignored, and counts the others.
func ignoredOf(all Problems) Problems {
	n := len(all) - maxOfSort
	if n <= 0 {
		return all
	}
	return append(slices.Clip(all[:maxOfSort]), Problem{Message: fmt.Sprintf("%d more ignored fields are not named here", n)})
}

// warner finds what is allowed but probably not meant.
type warner struct {
	base, next *Config
	changes    []Change
	touched    [lastKind + 1]map[string]bool
	at         map[location]string
	now        time.Time

	list   Problems
	sorts  []string // in the order in which they were met
	counts map[string]int
}

// resource returns the resource of a name as it is then; nil: there is none.
func (w *warner) resource(k Kind, name string) Message {
	if e := w.next.ByName(k, name); e != nil {
		return e.Message
	}
	return nil
}

// say warns about a resource. sort says what such things are called when there are too many to name them.
func (w *warner) say(sort string, m Message, field, value, format string, args ...any) {
	if w.counts[sort] == 0 {
		w.sorts = append(w.sorts, sort)
	}
	if w.counts[sort]++; w.counts[sort] <= maxOfSort {
		k := KindOfMessage(m)
		w.list.add(k, m.GetName(), w.at[location{k, m.GetId()}], field, value, format, args...)
	}
}

func (w *warner) route(m *configv1.Route) {
	w.methods(m)
	rule := w.next.Table().ByID(m.GetId())
	if rule != nil && rule.TakesConnect() && connectIsRefused(w.next, m) {
		w.say("routes for CONNECT", m, "methods", "CONNECT",
			`is answered with 501: the policy's upgrades do not have "connect"`)
	}
}

func (w *warner) service(m *configv1.Service) {
	if len(m.GetEndpoints()) == 0 && m.GetDiscovery() == nil {
		w.say("services without endpoints", m, "endpoints", "",
			"is empty: every request is answered with 503 NO_HEALTHY_ENDPOINTS")
	}
	w.weights(m)
	if m.GetTls().GetInsecureSkipVerify() {
		w.say("services whose certificates are not verified", m, "tls.insecure_skip_verify", "",
			"is on: anybody between the nodes and the endpoints can read and change everything")
	}
	w.periods(m, "tls.ca_pem", m.GetTls().GetCaPem())
}

// weights finds weights of endpoints that have no effect, or leave none in use.
func (w *warner) weights(m *configv1.Service) {
	first, said, used, differ := uint32(0), -1, false, false // said is the first endpoint whose weight is given
	for i, e := range m.GetEndpoints() {
		weight := Weight(e)
		if weight == 0 {
			continue
		}
		if e.Weight != nil && said < 0 {
			said = i
		}
		if !used {
			first, used = weight, true
		}
		differ = differ || weight != first
	}
	switch balancer := ServiceSettingsOf(m).Balancing.Type; {
	case len(m.GetEndpoints()) > 0 && !used:
		w.say("services whose endpoints all have the weight 0", m, "endpoints", "",
			"all have the weight 0: every request is answered with 503 NO_HEALTHY_ENDPOINTS")
	case differ && balancer == "round_robin":
		w.say("services whose weights have no effect", m, fmt.Sprintf("endpoints[%d].weight", said),
			fmt.Sprint(Weight(m.GetEndpoints()[said])),
			`has no effect: load_balancer_type %q sends every endpoint the same; `+
				`"weighted_round_robin" and "least_connections" go by weights`, balancer)
	}
}

// cookies finds routes whose sticky cookie has the name of one by which a service of theirs tells clients apart: each
// sets its own, and clients keep one of them.
func (w *warner) cookies() {
	var sticky []*Entry
	for e := range w.next.All(Route) {
		if e.Message.(*configv1.Route).GetSticky().GetCookie() != nil {
			sticky = append(sticky, e)
		}
	}
	slices.SortFunc(sticky, func(a, b *Entry) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, e := range sticky {
		r := e.Message.(*configv1.Route)
		name := r.GetSticky().GetCookie().GetName()
		for _, s := range servicesOf(w.next, r) {
			touched := w.touched[Route][e.ID()] || w.touched[Service][s.GetId()]
			if key := s.GetLoadBalancerConfig().GetHashKey().GetCookie(); touched && key.GetName() == name {
				w.say("routes whose cookie has a service's name for its own", r, "sticky.cookie.name", name,
					"is also the cookie of service %q (load_balancer_config.hash_key): both are set, clients keep one, and change "+
						"their backend or endpoint each time; each needs a name of its own", s.GetName())
			}
		}
	}
}

// unreachable finds routes that can never match: those that changed, and others for which what changed answers from
// now on.
func (w *warner) unreachable(changed map[*match.Rule]bool, comparisons match.Comparisons) {
	const sort = "routes that can never match"
	found := w.next.Table().Unreachable(changed, &comparisons)
	for _, rule := range slices.SortedFunc(maps.Keys(found),
		func(a, b *match.Rule) int { return cmp.Compare(a.Name, b.Name) }) {
		m := rule.Value.(*Entry).Message.(*configv1.Route)
		if changed[rule] {
			w.say(sort, m, "path", m.GetPath(), "can never match: route %q answers all that it could", found[rule].Name)
		} else {
			w.say(sort, m, "path", m.GetPath(), "can never match any more: route %q answers all that it could",
				found[rule].Name)
		}
	}
	if comparisons.Spent() {
		w.list = append(w.list,
			Problem{Message: "not every route was looked at for being reachable: too many differ in header fields or the " +
				"query only"})
	}
}

// overtaken finds routes for all of a host that lose requests to routes for any host.
func (w *warner) overtaken(changed map[*match.Rule]bool) {
	for _, pair := range w.next.Table().Overtaken(changed) {
		r, by := pair.Rule.Value.(*Entry).Message.(*configv1.Route), pair.By.Value.(*Entry).Message.(*configv1.Route)
		if IsChallenge(by) || IsTransient(by) {
			continue
		}
		const sort = "routes of hosts that lose requests to routes of any host"
		if changed[pair.Rule] {
			w.say(sort, r, "path", r.GetPath(),
				"does not get all of %q: %s %s goes to route %q, whose path %s is longer and which is for any host; "+
					"a higher priority would put this route first",
				pair.Host, pair.Request.Method, pair.Request.Path, by.GetName(), by.GetPath())
		} else {
			w.say(sort, by, "path", by.GetPath(),
				"takes requests of %q from route %q, which is for %s of that host: this path is longer, "+
					"and this route for any host; a higher priority would put that route first",
				pair.Host, r.GetName(), r.GetPath())
		}
	}
}

// changedRules returns the rules in use of the routes that changed.
func (w *warner) changedRules() map[*match.Rule]bool {
	rules := map[*match.Rule]bool{}
	for id := range w.touched[Route] {
		if rule := w.next.Table().ByID(id); rule != nil {
			rules[rule] = true
		}
	}
	return rules
}
