package config

import (
	"cmp"
	"fmt"
	"slices"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/match"
)

// clientAuthIndex is what the certificates of a configuration ask of clients, by host, as nodes look it up.
type clientAuthIndex struct {
	required bool // by any certificate
	hosts    hostname.Index[*configv1.Certificate]
	fallback *configv1.Certificate // serves every other host; nil: none
	// below has for a wildcard, and for "", an example of the hosts under it that certificates name.
	below map[hostname.Pattern]*extent
}

// extent is which of some hosts ask clients for a certificate. Each is an example, nil where there is none.
type extent struct {
	closed, open *configv1.Certificate
	// closedHost and openHost are in words.
	closedHost, openHost string
}

func (x *extent) add(m *configv1.Certificate, host string) {
	switch {
	case !requires(m):
		if x.openHost == "" {
			x.open, x.openHost = m, host
		}
	case x.closedHost == "":
		x.closed, x.closedHost = m, host
	}
}

func (x *extent) join(o *extent) {
	if o == nil {
		return
	}
	if x.openHost == "" {
		x.open, x.openHost = o.open, o.openHost
	}
	if x.closedHost == "" {
		x.closed, x.closedHost = o.closed, o.closedHost
	}
}

func requires(m *configv1.Certificate) bool { return m.GetClientAuth().GetMode() == "required" }

func newClientAuthIndex(c *Config) *clientAuthIndex {
	d := &clientAuthIndex{below: map[hostname.Pattern]*extent{}}
	for e := range c.All(Certificate) {
		d.required = d.required || requires(e.Message.(*configv1.Certificate))
	}
	if !d.required {
		return d
	}
	for _, e := range c.Sorted(Certificate) {
		m := e.Message.(*configv1.Certificate)
		if m.GetDefault() {
			d.fallback = m
		}
		for _, h := range m.GetHosts() {
			p, err := hostname.Parse(h)
			if err != nil {
				continue
			}
			if _, there := d.hosts.Get(p); !there { // others for the host ask the same, see checkServing
				d.hosts.Put(p, m)
			}
			d.note("", p, m)
			for w := range p.Above() {
				if w != p {
					d.note(w, p, m)
				}
			}
		}
	}
	return d
}

func (d *clientAuthIndex) note(under, p hostname.Pattern, m *configv1.Certificate) {
	x := d.below[under]
	if x == nil {
		x = &extent{}
		d.below[under] = x
	}
	x.add(m, fmt.Sprintf("%q", p))
}

// of returns what is asked of the clients of a route with these hosts; none: any.
func (d *clientAuthIndex) of(hosts []hostname.Pattern) (x extent) {
	if len(hosts) == 0 {
		x.add(d.fallback, "any host that no certificate names")
		x.join(d.below[""])
		return x
	}
	for _, p := range hosts {
		m, ok := d.hosts.Lookup([]byte(p.String())) // no host is spelt like a wildcard: it is found under itself or one above
		if !ok {
			m = d.fallback
		}
		x.add(m, fmt.Sprintf("%q", p))
		if p.Wildcard() {
			x.join(d.below[p])
		}
	}
	return x
}

// openToAll is what routes are that openRoutes finds.
const openToAll = "routes that are reached without a client certificate"

// openRoutes finds routes that ask for a client certificate under some of their hosts only, so that whoever says
// another host gets around it, and those that asked for one before these changes and do not any more.
func (w *warner) openRoutes() {
	now, before := newClientAuthIndex(w.next), &clientAuthIndex{}
	touched := map[string]bool{}
	all := false
	for _, ch := range w.changes {
		switch ch.Kind {
		case Certificate:
			all = true
		case Route:
			touched[ch.ID()] = true
		}
	}
	if all {
		before = newClientAuthIndex(w.base)
	}
	if !now.required && !before.required {
		return
	}
	rules := w.next.Table().All()
	slices.SortFunc(rules, func(a, b *match.Rule) int { return cmp.Compare(a.Name, b.Name) })
	for _, rule := range rules {
		m := rule.Value.(*Entry).Message.(*configv1.Route)
		if !all && !touched[rule.ID] || m.GetRedirect() != nil || IsChallenge(m) {
			continue
		}
		is := now.of(rule.Hosts())
		was := before.of(rule.Hosts())
		switch {
		case is.openHost == "":
			continue
		case is.closedHost != "":
			w.say(openToAll, m, "hosts", "",
				"is reached without a client certificate as %s, though certificate %q requires one as %s: give each its route, "+
					"or client_auth to the certificate of the other host, which may be one with default: "+
					"true", is.openHost, is.closed.GetName(), is.closedHost)
		case was.closedHost != "":
			w.say(openToAll, m, "hosts", "",
				"is reached without a client certificate from now on: certificate %q required one as "+
					"%s", was.closed.GetName(), was.closedHost)
		}
	}
}
