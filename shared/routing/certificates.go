package routing

import (
	"crypto/sha256"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/hostname"
)

// Certificates says which certificates clients of a host are shown over TLS, each list in the order of preference: of
// one, clients get the first that they understand. The first one's settings are in force.
type Certificates struct {
	// ByHost has those for a host, or for all below one.
	ByHost map[hostname.Pattern][]*config.Entry
	// Default are those for hosts that no certificate names; none: handshakes for these are refused.
	Default []*config.Entry
	// Asks tells that some host asks clients for certificates.
	Asks bool
}

// CertificatesOf returns the certificates of a configuration. covers reports whether one is there for a host, and, for
// "", whether it is there at all: one that ACME keeps valid may be on its way. What a host asks of clients holds even
// so.
func CertificatesOf(c *config.Config, covers func(e *config.Entry, host string) bool) *Certificates {
	s := &Certificates{ByHost: map[hostname.Pattern][]*config.Entry{}}
	for _, e := range c.Sorted(config.Certificate) {
		m := e.Message.(*configv1.Certificate)
		asks := m.GetClientAuth() != nil
		for _, h := range m.GetHosts() {
			pattern, err := hostname.Parse(h)
			if err == nil && (asks || covers(e, h)) { // no request is for what can't be parsed
				s.ByHost[pattern] = append(s.ByHost[pattern], e)
			}
		}
		if m.GetDefault() && (asks || covers(e, "")) {
			s.Default = append(s.Default, e)
		}
		s.Asks = s.Asks || asks
	}
	return s
}

// ClientPolicy is what a host asks of its clients. Hosts that ask the same have equal ones, and those that ask nothing
// the zero one.
type ClientPolicy struct {
	// Required tells that there is nothing for clients without a certificate.
	Required bool
	// ID tells policies apart.
	ID [sha256.Size]byte
}

// ClientPolicyOf returns what a certificate's settings ask of clients.
func ClientPolicyOf(m *configv1.Certificate) ClientPolicy {
	a := m.GetClientAuth()
	if a == nil {
		return ClientPolicy{}
	}
	return ClientPolicy{a.GetMode() == "required", sha256.Sum256([]byte(a.GetMode() + "\n" + a.GetCaPem()))}
}

// Misdirects reports whether a host with this policy takes no request of a connection that was opened for a host with
// another one: who has proved something to that, or nothing at all, has proved nothing here (RFC 9110 section 7.4).
// overTLS is false where the connection has no TLS; opened is then of no account.
func (p ClientPolicy) Misdirects(overTLS bool, opened [sha256.Size]byte) bool {
	if !overTLS {
		return p.Required
	}
	return p.ID != ClientPolicy{}.ID && p.ID != opened
}
