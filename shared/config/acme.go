package config

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// ChallengePath is what the paths begin with at which ACME servers ask for the answers to their challenges (RFC 8555
// section 8.3).
const ChallengePath = "/.well-known/acme-challenge/"

// ManagedByLabel and ManagedByACME label the routes that the control plane adds by itself to answer challenges.
const (
	ManagedByLabel = "managed-by"
	ManagedByACME  = "acme"
)

// maxACMEHosts is how many names an ACME certificate may have: what Let's Encrypt issues.
const maxACMEHosts = 100

// maxDirectoryURL is the longest URL of a directory, in bytes.
const maxDirectoryURL = 512

// IsChallenge reports whether a route answers an ACME challenge: one exact path below ChallengePath, a fixed answer,
// nothing that it runs through. Such an answer is public by its nature, so nodes give it to everybody, whatever global
// pipelines and client_auth say.
func IsChallenge(m *configv1.Route) bool {
	token, below := strings.CutPrefix(m.GetPath(), ChallengePath)
	return below && token != "" && !strings.ContainsAny(token, "/*{}") && m.GetDirectResponse() != nil &&
		m.GetPipelineId() == "" && m.GetPolicyId() == ""
}

// IsTransient reports whether a resource comes and goes by itself. It is in revisions as any other is, but nobody
// desires it: exports do not have it, and neither an apply that prunes nor a rollback touches it.
func IsTransient(m Message) bool {
	r, ok := m.(*configv1.Route)
	return ok && r.GetLabels()[ManagedByLabel] == ManagedByACME && IsChallenge(r)
}

// Covers reports whether a certificate is for a host, which may be "*.example.com".
func Covers(leaf *x509.Certificate, host string) bool {
	if rest, wildcard := strings.CutPrefix(host, "*."); wildcard {
		host = "any." + rest
	}
	return leaf.VerifyHostname(host) == nil
}

// keepObtained sets what says where a certificate is from: what is stored, as long as it is the same certificate.
func keepObtained(m, before *configv1.Certificate) {
	m.Obtained = nil
	if before != nil && m.GetCertPem() == before.GetCertPem() && (m.GetKeyPem() == "" ||
		m.GetKeyPem() == before.GetKeyPem()) {
		m.Obtained = before.GetObtained()
	}
}

// keepKeyPair completes a certificate that is put without a key by what is stored. One that ACME keeps valid takes over
// all that was obtained; restored from an earlier revision it does so too where that is newer: a rollback brings back
// what was desired, not old certificates.
func keepKeyPair(m, before *configv1.Certificate, restore bool) {
	byACME := m.GetAcme() != nil
	older := restore && byACME && before.GetAcme() != nil && m.GetNotAfter().AsTime().Before(before.GetNotAfter().AsTime())
	switch {
	case byACME && before != nil && (m.GetKeyPem() == "" || older):
		m.CertPem, m.KeyPem, m.Obtained = before.GetCertPem(), before.GetKeyPem(), before.GetObtained()
	case before != nil && m.GetKeyPem() == "":
		m.KeyPem = before.GetKeyPem()
		if text, ok := before.GetEnvironment()["key_pem"]; ok {
			if m.Environment == nil {
				m.Environment = map[string]string{}
			}
			m.Environment["key_pem"] = text
		}
	}
	if !byACME || m.GetKeyPem() == "" {
		m.Obtained = nil
	}
}

var acmeProfile = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// acme checks what is asked of an ACME server.
func (c *checker) acme(m *configv1.Certificate) {
	switch n := len(m.GetHosts()); {
	case n == 0:
		c.fail("hosts", "", "is empty: a certificate that is obtained by ACME has to name its hosts")
	case n > maxACMEHosts:
		c.fail("hosts", "", "has %d entries; an ACME certificate may have %d", n, maxACMEHosts)
	}
	for i, h := range m.GetHosts() {
		field := fmt.Sprintf("hosts[%d]", i)
		switch {
		case strings.HasPrefix(h, "*."):
			c.fail(field, h, "can't be a wildcard with acme: hosts are proved by HTTP, which does not prove wildcards; name the hosts, or give cert_pem and key_pem instead of acme")
		case !ValidHost(h):
			c.fail(field, h, "has to be a host name or an IP address")
		case slices.Contains(m.GetHosts()[:i], h):
			c.fail(field, h, "is there twice")
		}
	}
	a := m.GetAcme()
	if d := a.GetDirectoryUrl(); d != "" {
		if err := CheckDirectoryURL(d); err != nil {
			c.fail("acme.directory_url", d, "%s", err)
		}
	}
	c.oneOf("acme.key_type", a.GetKeyType(), "ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096")
	if p := a.GetProfile(); p != "" && !acmeProfile.MatchString(p) {
		c.fail("acme.profile", p, `has to be the name of a profile of the server: 1 to 64 of letters, digits, ".", "_" and "-"`)
	}
}

// CheckDirectoryURL says what is wrong with the URL of an ACME server's directory.
func CheckDirectoryURL(s string) error {
	u, err := url.Parse(s)
	if len(s) > maxDirectoryURL {
		return fmt.Errorf("has %d bytes; %d are allowed", len(s), maxDirectoryURL)
	}
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("has to be an https URL such as https://acme-v02.api.letsencrypt.org/directory")
	}
	return nil
}

// checkServiceCertificates refuses services that would show an ACME certificate: those are for servers, and may not be
// there yet.
func (p *planner) checkServiceCertificates(next *Config, changes []Change, at map[location]string) {
	certificates := slices.ContainsFunc(changes, func(ch Change) bool { return ch.Kind == Certificate })
	check := func(m *configv1.Service) {
		e := next.ByID(Certificate, m.GetTls().GetCertificateId())
		if e != nil && e.Message.(*configv1.Certificate).GetAcme() != nil {
			p.problems.add(Service, m.GetName(), at[location{Service, m.GetId()}], "tls.certificate_id", e.Name(),
				"is obtained by ACME, whose certificates are for servers: name a certificate with cert_pem and key_pem")
		}
	}
	if certificates {
		for _, e := range next.Sorted(Service) {
			check(e.Message.(*configv1.Service))
		}
		return
	}
	for _, ch := range changes {
		_, after := ch.Messages()
		if m, ok := after.(*configv1.Service); ok {
			check(m)
		}
	}
}
