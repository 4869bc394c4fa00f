// Package explaintest has configurations with requests and what becomes of them, for the tests of what foretells that
// and of what does it.
package explaintest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
	"gateway.internal/shared/explain"
	"gateway.internal/shared/routing"
)

// Scenario is a configuration with requests.
type Scenario struct {
	// Name is that of the file with the configuration, without ".yaml".
	Name string
	// Configuration is what the file has, with certificates where it has none.
	Configuration *configv1.Configuration
	// Cases are the requests.
	Cases []Case

	path string
}

// Case is a request, and what becomes of it.
type Case struct {
	// About says what is to be seen.
	About string `yaml:"about,omitempty"`
	// Request is the method and the URL, which may be left away from the path on.
	Request string `yaml:"request"`
	// Fields are the header fields, such as "Accept: */*".
	Fields []string `yaml:"fields,omitempty,flow"`
	// Client, Consumer and Groups are what is known of the client.
	Client   string   `yaml:"client,omitempty"`
	Consumer string   `yaml:"consumer,omitempty"`
	Groups   []string `yaml:"groups,omitempty,flow"`
	// Random chooses one of several backends, and Fraction whether the request is mirrored.
	Random   uint32  `yaml:"random,omitempty"`
	Fraction float64 `yaml:"fraction,omitempty"`
	// Result is what becomes of it.
	Result explain.Explanation `yaml:"result"`
}

// goldenSuffix is the end of the names of files with requests and results.
const goldenSuffix = ".golden.yaml"

// Scenarios reads those of a folder: of every FILE.golden.yaml, for which there is the configuration FILE.yaml.
func Scenarios(t testing.TB, folder string) []*Scenario {
	t.Helper()
	golden, err := filepath.Glob(filepath.Join(folder, "*"+goldenSuffix))
	if err != nil || len(golden) == 0 {
		t.Fatalf("%s: no scenarios: %v", folder, err)
	}
	var all []*Scenario
	for _, path := range golden {
		base := strings.TrimSuffix(path, goldenSuffix)
		doc, err := file.Load([]string{base + ".yaml"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &Scenario{Name: filepath.Base(base), Configuration: doc.Configuration, path: path}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &s.Cases); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, c := range s.Configuration.GetCertificates() {
			certify(t, c)
		}
		all = append(all, s)
	}
	return all
}

// Write writes the requests and results back.
func (s *Scenario) Write(t testing.TB) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# What becomes of requests under %s.yaml. ", s.Name)
	b.WriteString("The results are written by: go test ./explain -update\n")
	for i := range s.Cases {
		b.WriteString("\n")
		text, err := yaml.Marshal(s.Cases[i : i+1])
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	if err := os.WriteFile(s.path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Head returns the head of the request.
func (c *Case) Head(t testing.TB) *explain.Head {
	t.Helper()
	method, url, _ := strings.Cut(c.Request, " ")
	h, err := explain.ParseHead(method, url, c.Fields)
	if err != nil {
		t.Fatalf("%s: %v", c.Request, err)
	}
	h.Random, h.Fraction = c.Random, c.Fraction
	h.Client = routing.Client{Consumer: c.Consumer, Groups: c.Groups}
	if c.Client != "" {
		h.Client.Address = netip.MustParseAddr(c.Client)
	}
	return h
}

// Plan returns the configuration that resources make, with ids that are the same each time.
func Plan(c *configv1.Configuration) (*config.Config, error) {
	n := 0
	plan, err := config.Empty().Plan(file.Edits(c), config.PlanOptions{
		Now: time.Now(), NewID: func() string { n++; return fmt.Sprint("id-", n) },
	})
	if err != nil {
		return nil, err
	}
	return plan.Config, nil
}

// certify gives a certificate, and what it asks of clients, the PEM that they lack.
func certify(t testing.TB, c *configv1.Certificate) {
	t.Helper()
	if c.GetCertPem() == "" {
		c.CertPem, c.KeyPem = SelfSigned(t, c.GetHosts()...)
	}
	if a := c.GetClientAuth(); a != nil && a.GetCaPem() == "" {
		a.CaPem, _ = SelfSigned(t, "ca.test")
	}
}

// SelfSigned returns a certificate for hosts with its key, as PEM.
func SelfSigned(t testing.TB, hosts ...string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hosts[0]}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}
