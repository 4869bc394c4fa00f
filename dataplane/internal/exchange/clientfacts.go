package exchange

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strings"

	"gateway.internal/shared/credential"
)

// ClientFacts are what a client's certificate says, as texts that can be field values: control characters are "?".
type ClientFacts struct {
	// Subject and Issuer are distinguished names (RFC 2253).
	Subject, Issuer string
	// SAN are the subject's alternative names in the order DNS, email, IP, URI, such as
	// "DNS:a.example,URI:spiffe://a/b". "," and "%" in a name are percent-encoded.
	SAN string
	// Serial is the serial number in lower-case hexadecimal.
	Serial string
	// DN is the subject as credential.Subject writes it: the one form that consumers' subjects have.
	DN string
	// Fingerprint is the SHA-256 of the certificate in lower-case hexadecimal.
	Fingerprint string
}

var noFacts ClientFacts

// Facts returns what the client's certificate says; the zero value where it showed none. They are put together once for
// a connection, when somebody asks. It is safe for concurrent use.
func (t *TLS) Facts() *ClientFacts {
	if t == nil || t.Certificate == nil {
		return &noFacts
	}
	t.factsOnce.Do(func() { t.facts = factsOf(t.Certificate) })
	return &t.facts
}

func factsOf(c *x509.Certificate) ClientFacts {
	sum := sha256.Sum256(c.Raw)
	f := ClientFacts{
		Subject: fieldText(c.Subject.String()), Issuer: fieldText(c.Issuer.String()), Fingerprint: hex.EncodeToString(sum[:]), SAN: alternativeNames(c),
	}
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(c.RawSubject, &name); err == nil && len(rest) == 0 {
		f.DN = credential.Subject(name)
	}
	if c.SerialNumber != nil {
		f.Serial = c.SerialNumber.Text(16)
	}
	return f
}

var encodeSeparators = strings.NewReplacer("%", "%25", ",", "%2C")

func alternativeNames(c *x509.Certificate) string {
	var names []string
	add := func(kind, name string) { names = append(names, kind+":"+fieldText(encodeSeparators.Replace(name))) }
	for _, n := range c.DNSNames {
		add("DNS", n)
	}
	for _, n := range c.EmailAddresses {
		add("email", n)
	}
	for _, n := range c.IPAddresses {
		add("IP", n.String())
	}
	for _, n := range c.URIs {
		add("URI", n.String())
	}
	return strings.Join(names, ",")
}

// fieldText makes a text a field value (RFC 9110 section 5.5).
func fieldText(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, s))
}

// VersionText returns the protocol's version, such as "TLSv1.3"; empty without TLS.
func (t *TLS) VersionText() string {
	if t == nil {
		return ""
	}
	switch t.Version {
	case tls.VersionTLS13:
		return "TLSv1.3"
	case tls.VersionTLS12:
		return "TLSv1.2"
	}
	return tls.VersionName(t.Version)
}

// CipherText returns the suite's standard name, such as "TLS_AES_128_GCM_SHA256"; empty without TLS.
func (t *TLS) CipherText() string {
	if t == nil {
		return ""
	}
	return tls.CipherSuiteName(t.CipherSuite)
}

// Name returns the name that the client asked for (SNI); empty without TLS.
func (t *TLS) Name() string {
	if t == nil {
		return ""
	}
	return t.ServerName
}
