package mtlsauth

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"testing"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/consumer/consumertest"
	"gateway.internal/dataplane/internal/exchange"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/certtest"
	"gateway.internal/shared/fault"
)

func certificate(t *testing.T, name pkix.Name) *x509.Certificate {
	t.Helper()
	return certtest.New(t, nil, x509.Certificate{Subject: name}).Certificate
}

func TestCertificates(t *testing.T) {
	one := certificate(t, pkix.Name{CommonName: "one", Organization: []string{"Example, Inc."}})
	other := certificate(t, pkix.Name{CommonName: "one", Organization: []string{"Example, Inc."}})
	third := certificate(t, pkix.Name{CommonName: "one"})
	sum := sha256.Sum256(other.Raw)
	all := consumertest.Set(t, nil,
		&configv1.Consumer{Name: "by-subject", Credentials: &configv1.Credentials{
			Certificates: []*configv1.CertificateCredential{{Subject: `cn=one, o=Example\2C Inc.`}},
		}},
		&configv1.Consumer{Name: "by-fingerprint", Credentials: &configv1.Credentials{
			Certificates: []*configv1.CertificateCredential{{Fingerprint: hex.EncodeToString(sum[:])}},
		}})
	for _, c := range []struct {
		name               string
		shown              *x509.Certificate
		consumer, optional string // "": refused
	}{
		{"by its subject", one, "by-subject", "by-subject"},
		{"by its fingerprint, which says more", other, "by-fingerprint", "by-fingerprint"},
		{"of another subject", third, "", ""},
		{"none", nil, "", "anybody"},
	} {
		for _, optional := range []bool{false, true} {
			env := consumertest.Environment("mtls_auth", func() *consumer.Set { return all }, nil)
			s, err := New(&middlewarev1.MtlsAuth{Optional: optional, ConsumerHeader: "X-Consumer"}, env)
			if err != nil {
				t.Fatal(err)
			}
			var x exchange.Exchange
			x.TLS = &exchange.TLS{Certificate: c.shown}
			x.Request.Header.Add("X-Consumer", "by-subject")
			x.Request.Header.Add("Client-Cert", "forged")
			want := c.consumer
			if optional {
				want = c.optional
			}
			switch v := s.Request(&x); want {
			case "":
				if v != exchange.Stop || x.Response.Status != 401 || x.Response.Code != fault.Unauthenticated ||
					x.Principal != nil {
					t.Errorf("%s, %v: %v %d", c.name, optional, v, x.Response.Status)
				}
			case "anybody":
				if v != exchange.Continue || x.Principal != nil || x.Request.Header.Get("X-Consumer") != "" {
					t.Errorf("%s, %v: %v as %v", c.name, optional, v, x.Principal)
				}
			default:
				if v != exchange.Continue || x.Consumer() != want || x.Request.Header.Get("X-Consumer") != want {
					t.Errorf("%s, %v: %v as %v", c.name, optional, v, x.Principal)
				}
			}
		}
	}
}

func TestRequestDoesNotAllocate(t *testing.T) {
	all := consumertest.Set(t, nil, &configv1.Consumer{Name: "shop", Credentials: &configv1.Credentials{
		Certificates: []*configv1.CertificateCredential{{Subject: "CN=one"}},
	}})
	s, err := New(&middlewarev1.MtlsAuth{}, consumertest.Environment("mtls_auth", func() *consumer.Set { return all },
		nil))
	if err != nil {
		t.Fatal(err)
	}
	var x exchange.Exchange
	tls := &exchange.TLS{Certificate: certificate(t, pkix.Name{CommonName: "one"})}
	if n := testing.AllocsPerRun(100, func() {
		x.TLS, x.Principal = tls, nil
		if s.Request(&x) != exchange.Continue {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
