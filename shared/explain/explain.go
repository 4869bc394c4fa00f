// Package explain foretells what a node does with a request: it compiles a configuration as nodes do, and asks the
// functions that nodes run on, package routing, about the head of a request. What middleware decides is not foretold,
// nor what depends on bodies, on connections and on the health of endpoints.
package explain

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/routing"
)

// Compiled is a configuration as a node compiles it. It is immutable and safe for concurrent use.
type Compiled struct {
	tables   routing.Tables
	hosts    hostname.Index[*TLS]
	fallback *TLS
	asks     bool
}

// route is a compiled route with the names that an explanation tells.
type route struct {
	routing.Route
	message  *configv1.Route
	backends []backend
	mirror   string // the service's name
}

// backend is a share of a route's traffic.
type backend struct {
	service   string
	pipelines []Pipeline
	limits    config.Limits
}

// Compile compiles a valid configuration for a node with settings for paths that Check has passed.
func Compile(c *config.Config, paths pathnorm.Settings) (*Compiled, error) {
	forms := routing.NewPathForms(paths)
	compiler := routing.NewCompiler(c, forms)
	var rules []*match.Rule
	for _, e := range c.Sorted(config.Route) {
		msg := e.Message.(*configv1.Route)
		if !routing.Enabled(msg) {
			continue
		}
		base, rule, err := compiler.Route(msg)
		if err != nil {
			return nil, fmt.Errorf("route %q: %w", e.Name(), err)
		}
		r := &route{Route: *base, message: msg}
		for _, share := range r.Split.Shares {
			b, err := newBackend(c, compiler, r, share.ServiceID)
			if err != nil {
				return nil, fmt.Errorf("route %q: %w", e.Name(), err)
			}
			r.backends = append(r.backends, b)
		}
		if r.Mirror != nil {
			r.mirror = compiler.Service(r.Mirror.ServiceID).GetName()
		}
		rule.Value = r
		rules = append(rules, rule)
	}
	empty := routing.NewTables(forms.Node())
	compiled := &Compiled{tables: empty.With(nil, rules)}
	return compiled, compiled.compileCertificates(c)
}

func newBackend(c *config.Config, compiler *routing.Compiler, r *route, serviceID string) (backend, error) {
	service := compiler.Service(serviceID)
	b := backend{service: service.GetName()}
	policy := func(id string) *configv1.Policy {
		if e := c.ByID(config.Policy, id); e != nil {
			return e.Message.(*configv1.Policy)
		}
		return nil
	}
	b.limits = config.LimitsOf(policy(r.message.GetPolicyId()), policy(service.GetPolicyId()))
	b.limits.Priority = config.PriorityOf(r.message, &b.limits)
	if r.Challenge {
		return b, nil
	}
	uses, err := compiler.Pipelines().For(service.GetPipelineId(), r.message.GetPipelineId())
	if err != nil {
		return b, err
	}
	for _, u := range uses {
		steps, err := routing.Steps(c, u.Pipeline)
		if err != nil {
			return b, err
		}
		if len(steps) == 0 {
			continue
		}
		m := u.Pipeline.Message.(*configv1.Pipeline)
		p := Pipeline{Name: m.GetName(), For: u.Level, Parallel: m.GetParallel(), TimeoutMS: m.GetTimeoutMs()}
		for _, s := range steps {
			p.Steps = append(p.Steps, Step{s.Name(), s.Message.(*configv1.Middleware).GetType()})
		}
		b.pipelines = append(b.pipelines, p)
	}
	return b, nil
}

func (c *Compiled) compileCertificates(cfg *config.Config) error {
	leaves := map[string]*x509.Certificate{}
	for e := range cfg.All(config.Certificate) {
		block, _ := pem.Decode([]byte(e.Message.(*configv1.Certificate).GetCertPem()))
		if block == nil {
			continue // it is to come by ACME
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %q: %w", e.Name(), err)
		}
		leaves[e.ID()] = leaf
	}
	covers := func(e *config.Entry, host string) bool {
		leaf := leaves[e.ID()]
		acme := e.Message.(*configv1.Certificate).GetAcme() != nil
		return leaf != nil && (host == "" || !acme || config.Covers(leaf, host))
	}
	all := routing.CertificatesOf(cfg, covers)
	c.asks = all.Asks
	for pattern, list := range all.ByHost {
		c.hosts.Put(pattern, newTLS(list, func(e *config.Entry) bool { return covers(e, pattern.String()) }))
	}
	if len(all.Default) > 0 {
		c.fallback = newTLS(all.Default, func(e *config.Entry) bool { return covers(e, "") })
	}
	return nil
}

func newTLS(list []*config.Entry, there func(*config.Entry) bool) *TLS {
	first := list[0].Message.(*configv1.Certificate)
	t := &TLS{MinVersion: "1.2", policy: routing.ClientPolicyOf(first)}
	if v := first.GetMinVersion(); v != "" {
		t.MinVersion = v
	}
	if a := first.GetClientAuth(); a != nil {
		t.ClientCertificate = "optional"
		if t.policy.Required {
			t.ClientCertificate = "required"
		}
	}
	for _, e := range list {
		if there(e) {
			t.Certificates = append(t.Certificates, e.Name())
		}
	}
	return t
}

// tlsOf returns what clients of a host meet over TLS; nil: handshakes are refused.
func (c *Compiled) tlsOf(authority string) *TLS {
	var b hostname.Buffer
	if t, ok := c.hosts.Lookup(hostname.Key(&b, authority)); ok {
		return t
	}
	return c.fallback
}
