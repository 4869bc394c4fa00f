package config

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/certtest"
)

func TestServiceTLSIsValidated(t *testing.T) {
	unix := []*configv1.Endpoint{{Host: "unix:/run/app.sock"}}
	for _, c := range []struct {
		name    string
		service *configv1.Service
		field   string // with a problem; empty: none
	}{
		{"https", &configv1.Service{Protocol: "https"}, ""},
		{"tls without a protocol that uses it", &configv1.Service{Tls: &configv1.ServiceTLS{}}, "tls"},
		{
			"an authority that is none",
			&configv1.Service{Protocol: "https", Tls: &configv1.ServiceTLS{CaPem: "x"}}, "tls.ca_pem",
		},
		{
			"a key for an authority",
			&configv1.Service{
				Protocol: "https",
				Tls: &configv1.ServiceTLS{
					CaPem: "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
				},
			},
			"tls.ca_pem",
		},
		{
			"a name with a port",
			&configv1.Service{Protocol: "https", Tls: &configv1.ServiceTLS{ServerName: "a:1"}},
			"tls.server_name",
		},
		{
			"an old version",
			&configv1.Service{Protocol: "https", Tls: &configv1.ServiceTLS{MinVersion: "1.0"}},
			"tls.min_version",
		},
		{
			"a certificate that is not there",
			&configv1.Service{Protocol: "https", Tls: &configv1.ServiceTLS{CertificateId: "x"}},
			"tls.certificate_id",
		},
		{"a Unix socket", &configv1.Service{Endpoints: unix}, ""},
		{
			"a Unix socket without a name to verify", &configv1.Service{Protocol: "https", Endpoints: unix},
			"tls.server_name",
		},
		{
			"a Unix socket with a name to verify",
			&configv1.Service{Protocol: "https", Endpoints: unix, Tls: &configv1.ServiceTLS{ServerName: "a"}},
			"",
		},
		{
			"a Unix socket with a port",
			&configv1.Service{Endpoints: []*configv1.Endpoint{{Host: "unix:/run/app.sock", Port: 1}}},
			"endpoints[0].port",
		},
		{
			"a relative path", &configv1.Service{Endpoints: []*configv1.Endpoint{{Host: "unix:app.sock"}}},
			"endpoints[0].host",
		},
		{
			"a gRPC check of HTTP/1.1",
			&configv1.Service{HealthCheckConfig: &configv1.HealthCheckConfig{Type: "grpc"}},
			"health_check_config.type",
		},
	} {
		c.service.Name = "s"
		_, err := Empty().Plan([]Edit{put(c.service)}, options())
		var ps Problems
		errors.As(err, &ps)
		if c.field == "" && err != nil || c.field != "" && (len(ps) != 1 || ps[0].Field != c.field) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// selfSigned returns a certificate for names, with its key.
func selfSigned(t testing.TB, names ...string) (certPEM, keyPEM string) {
	t.Helper()
	return selfSignedUntil(t, time.Now().Add(1000*time.Hour), names...)
}

func selfSignedUntil(t testing.TB, end time.Time, names ...string) (certPEM, keyPEM string) {
	t.Helper()
	c := certtest.New(t, nil, x509.Certificate{DNSNames: names, NotAfter: end})
	return c.CertPEM, c.KeyPEM
}

func TestServedCertificatesAreValidated(t *testing.T) {
	cert, key := selfSigned(t, "a.example", "b.example")
	with := func(name string, change func(m *configv1.Certificate)) Edit {
		m := &configv1.Certificate{Name: name, CertPem: cert, KeyPem: key}
		change(m)
		return put(m)
	}
	nothing := func(*configv1.Certificate) {}
	isDefault := func(m *configv1.Certificate) { m.Default = true }
	for _, c := range []struct {
		name  string
		edits []Edit
		field string // with a problem; empty: none
	}{
		{"two for one host", []Edit{with("a", nothing), with("b", nothing)}, ""},
		{"an old version", []Edit{with("a", func(m *configv1.Certificate) { m.MinVersion = "1.1" })}, "min_version"},
		{
			"two versions for one host",
			[]Edit{
				with("a", nothing),
				with(
					"b", func(m *configv1.Certificate) { m.MinVersion, m.Hosts = "1.3", []string{"b.example"} },
				),
			},
			"hosts[0]",
		},
		{
			"the same version, said and not said",
			[]Edit{with("a", nothing), with("b", func(m *configv1.Certificate) { m.MinVersion = "1.2" })}, "",
		},
		{"two defaults", []Edit{with("a", isDefault), with("b", isDefault)}, "default"},
		{
			"no mode",
			[]Edit{with(
				"a", func(m *configv1.Certificate) { m.ClientAuth = &configv1.ClientAuth{CaPem: cert} },
			)},
			"client_auth.mode",
		},
		{
			"another mode",
			[]Edit{with(
				"a",
				func(m *configv1.Certificate) { m.ClientAuth = &configv1.ClientAuth{Mode: "maybe", CaPem: cert} },
			)},
			"client_auth.mode",
		},
		{
			"no authority",
			[]Edit{with(
				"a", func(m *configv1.Certificate) { m.ClientAuth = &configv1.ClientAuth{Mode: "required"} },
			)},
			"client_auth.ca_pem",
		},
		{
			"asks",
			[]Edit{with(
				"a",
				func(m *configv1.Certificate) { m.ClientAuth = &configv1.ClientAuth{Mode: "required", CaPem: cert} },
			)},
			"",
		},
	} {
		_, err := Empty().Plan(c.edits, options())
		var ps Problems
		errors.As(err, &ps)
		if c.field == "" && err != nil || c.field != "" && (len(ps) != 1 || ps[0].Field != c.field) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
