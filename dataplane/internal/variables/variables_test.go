package variables

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/template"
)

func example() *exchange.Exchange {
	x := &exchange.Exchange{}
	x.ID = "id-1"
	x.Client = netip.MustParseAddrPort("192.0.2.7:4711")
	x.ClientText = "192.0.2.7"
	x.Scheme = "https"
	x.Route = "r"
	x.Service = "s"
	x.Endpoint = "10.0.0.1:80"
	x.Request.Method, x.Request.Host, x.Request.Path, x.Request.RawQuery = "GET", "a.test", "/a/b", "c=d"
	x.Request.Header.Add("X-Tenant", "blue")
	x.Response.Status = 404
	uri, _ := url.Parse("spiffe://a/b,DNS:admin")
	x.TLS = &exchange.TLS{
		Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "a.test",
		Certificate: &x509.Certificate{
			Raw: []byte("raw"), Subject: pkix.Name{CommonName: "me\r\nX-Admin: 1", Organization: []string{"o,p"}}, Issuer: pkix.Name{CommonName: "ca"},
			DNSNames: []string{"me.test"}, URIs: []*url.URL{uri}, SerialNumber: big.NewInt(255),
		},
	}
	return x
}

func TestField(t *testing.T) {
	for text, want := range map[string]string{
		"${client.address}:${client.port}":                      "192.0.2.7:4711",
		"${request.method} ${request.scheme}://${request.host}": "GET https://a.test",
		"${request.path}?${request.query} ${request.version}":   "/a/b?c=d HTTP/1.1",
		"${route}/${service}/${request.id}":                     "r/s/id-1",
		"${request.header.x-tenant}":                            "blue",
		"${tls.version} ${tls.cipher} ${tls.server_name}":       "TLSv1.3 TLS_AES_128_GCM_SHA256 a.test",
		"${tls.client.subject}":                                 `CN=me??X-Admin: 1,O=o\,p`,
		"${tls.client.issuer} ${tls.client.serial}":             "CN=ca ff",
		"${tls.client.san}":                                     "DNS:me.test,URI:spiffe://a/b%2CDNS:admin",
		"${tls.client.fingerprint}":                             "d7439bee24773bcbfa2d0a97947ee36227b10d1022b1a55847e928965bb6bfde",
		"${endpoint} ${response.status}":                        "10.0.0.1:80 404",
		"${consumer}":                                           "", " ${consumer}${path.none} ": "", "Bearer ${consumer}": "Bearer", "$${route}": "${route}", "": "",
	} {
		compiled, err := Compile(text, template.InResponse)
		if err != nil {
			t.Fatal(err)
		}
		if got := compiled.Field(example()); got != want && (want == "" || !strings.HasPrefix(got, want)) {
			t.Errorf("%q: %q instead of %q", text, got, want)
		}
	}
}

// Texts of one exchange stay what they are while others are put together, and too long ones count for empty.
func TestFieldsTogether(t *testing.T) {
	x := example()
	path, _ := Compile("${request.path}", template.InRequest)
	first := path.Field(x)
	x.Request.Path = "/" + strings.Repeat("x", MaxField-1)
	if long := path.Field(x); len(long) != MaxField {
		t.Errorf("%d bytes", len(long))
	}
	x.Request.Path += "y"
	if long := path.Field(x); long != "" {
		t.Errorf("%d bytes", len(long))
	}
	if first != "/a/b" {
		t.Errorf("the first text has become %q", first)
	}
}

func TestNoAllocation(t *testing.T) {
	x := example()
	text, _ := Compile("${client.address} ${client.port} ${tls.client.subject} ${request.header.x-tenant}", template.InRequest)
	if n := testing.AllocsPerRun(100, func() {
		x.Texts = x.Texts[:0]
		_ = text.Field(x)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
