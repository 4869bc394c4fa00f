// Package certificate chooses what a node shows to a client that asks for a name over TLS, and what it asks of that
// client. Everything is compiled with the snapshot: a handshake looks a name up. It knows no listeners.
package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/hostname"
	"gateway.internal/shared/routing"
)

// Set is the certificates of a configuration, by name. It is immutable; nil is a set without certificates.
type Set struct {
	hosts    hostname.Index[*host]
	fallback *host
	asks     bool // some host asks clients for certificates
	parsed   map[string]*parsed
}

// host is what clients that ask for a name get.
type host struct {
	config *tls.Config
	policy Policy
}

// Policy is what a host asks of its clients.
type Policy = routing.ClientPolicy

// parsed is one certificate, kept as long as its content is the same.
type parsed struct {
	entry       *config.Entry
	message     *configv1.Certificate
	pair        tls.Certificate
	authorities *x509.CertPool
	policy      Policy
}

// Compile makes the set of a configuration; what is also in old is taken over.
func Compile(c *config.Config, tickets *Tickets, old *Set) (*Set, *streamv1.Problem) {
	s := &Set{parsed: map[string]*parsed{}}
	for _, e := range c.Sorted(config.Certificate) {
		p, err := old.parse(e)
		if err != nil {
			return nil, &streamv1.Problem{Kind: "certificate", Name: e.Name(), Reason: err.Error()}
		}
		s.parsed[e.ID()] = p
	}
	all := routing.CertificatesOf(c, func(e *config.Entry, host string) bool { return s.parsed[e.ID()].covers(host) })
	s.asks = all.Asks
	made := map[string]*host{} // hosts with the same certificates share theirs
	for pattern, list := range all.ByHost {
		s.hosts.Put(pattern, s.host(pattern.String(), s.those(list), tickets, made))
	}
	if len(all.Default) > 0 {
		s.fallback = s.host("", s.those(all.Default), tickets, made)
	}
	return s, nil
}

// those returns certificates as they were parsed.
func (s *Set) those(list []*config.Entry) []*parsed {
	all := make([]*parsed, len(list))
	for i, e := range list {
		all[i] = s.parsed[e.ID()]
	}
	return all
}

// parse returns a certificate, the one that s has where it is the same.
func (s *Set) parse(e *config.Entry) (*parsed, error) {
	if s != nil {
		if p := s.parsed[e.ID()]; p != nil && p.entry.Hash() == e.Hash() {
			return p, nil
		}
	}
	m := e.Message.(*configv1.Certificate)
	p := &parsed{entry: e, message: m, policy: routing.ClientPolicyOf(m)}
	if m.GetAcme() == nil || m.GetCertPem() != "" {
		var err error
		if p.pair, err = tls.X509KeyPair([]byte(m.GetCertPem()), []byte(m.GetKeyPem())); err != nil {
			return nil, err
		}
	}
	if a := m.GetClientAuth(); a != nil {
		p.authorities = x509.NewCertPool()
		if !p.authorities.AppendCertsFromPEM([]byte(a.GetCaPem())) {
			return nil, fmt.Errorf("client_auth.ca_pem has no certificate")
		}
	}
	return p, nil
}

// covers reports whether there is a certificate for a host; "" asks whether there is any. One that ACME keeps valid may
// not be there yet, or not yet be for a host that was added: until then the host is as if it were not in the list,
// except that what it asks of its clients holds.
func (p *parsed) covers(name string) bool {
	return p.pair.Leaf != nil && (name == "" || p.message.GetAcme() == nil || config.Covers(p.pair.Leaf, name))
}

// host makes what a name's clients get from the certificates for it, whose settings are the same: each client gets the
// first that it understands, say ECDSA rather than RSA. Where none of them is there yet, handshakes are refused.
func (s *Set) host(name string, list []*parsed, tickets *Tickets, made map[string]*host) *host {
	key := ""
	for _, p := range list {
		key += fmt.Sprintln(p.message.GetId(), p.covers(name))
	}
	if h := made[key]; h != nil {
		return h
	}
	first := list[0]
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		// The first records of a connection would be cut to fit packets, at the cost of a system call each.
		DynamicRecordSizingDisabled: true,
	}
	if first.message.GetMinVersion() == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	for _, p := range list {
		if p.covers(name) {
			c.Certificates = append(c.Certificates, p.pair)
		}
	}
	if len(c.Certificates) == 0 {
		h := &host{config: nothing, policy: first.policy}
		made[key] = h
		return h
	}
	if first.authorities != nil {
		c.ClientCAs, c.ClientAuth = first.authorities, tls.VerifyClientCertIfGiven
		if first.policy.Required {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	tickets.bind(c, first.policy)
	h := &host{config: c, policy: first.policy}
	made[key] = h
	return h
}

// protocols is what ALPN offers (RFC 7301).
var protocols = []string{"h2", "http/1.1"}

// nothing refuses handshakes, with the alert unrecognized_name.
var nothing = &tls.Config{MinVersion: tls.VersionTLS12}

// Choose returns what a client gets that says hello, and what that asks of it. A name that no certificate has gets the
// default one, or the alert unrecognized_name where there is none.
func (s *Set) Choose(hello *tls.ClientHelloInfo) (*tls.Config, Policy) {
	if s == nil {
		return nothing, Policy{}
	}
	name := hello.ServerName
	if name == "" && hello.Conn != nil {
		// Clients that were given an address ask for no name (RFC 6066 section 3).
		if local, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
			name = local.AddrPort().Addr().Unmap().String()
		}
	}
	if h := s.lookup(name); h != nil {
		return h.config, h.policy
	}
	return nothing, Policy{}
}

// lookup finds the host of an authority or of a name that was asked for over TLS.
func (s *Set) lookup(authority string) *host {
	var b hostname.Buffer
	if h, ok := s.hosts.Lookup(hostname.Key(&b, authority)); ok {
		return h
	}
	return s.fallback
}

// Asks reports whether any host asks its clients for certificates. Where it does not, every request may come over any
// connection.
func (s *Set) Asks() bool { return s != nil && s.asks }

// Policy returns what the host of a request, which may carry a port, asks of clients.
func (s *Set) Policy(authority string) Policy {
	if h := s.lookup(authority); h != nil {
		return h.policy
	}
	return Policy{}
}
