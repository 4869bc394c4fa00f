package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
)

// TestBoundTokens are those of who shows the certificate, and nobody's where they are bound to another key.
func TestBoundTokens(t *testing.T) {
	shown := &exchange.TLS{Certificate: &x509.Certificate{Raw: []byte("shown")}}
	thumbprint := func(raw string) string {
		sum := sha256.Sum256([]byte(raw))
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	none := &exchange.TLS{}
	for _, c := range []struct {
		name   string
		claims map[string]any
		tls    *exchange.TLS
		want   bool
	}{
		{"a bearer's", map[string]any{}, nil, true},
		{"the certificate's", map[string]any{"cnf": map[string]any{"x5t#S256": thumbprint("shown")}}, shown, true},
		{"another certificate's", map[string]any{"cnf": map[string]any{"x5t#S256": thumbprint("other")}}, shown, false},
		{"no certificate", map[string]any{"cnf": map[string]any{"x5t#S256": thumbprint("shown")}}, none, false},
		{"no TLS", map[string]any{"cnf": map[string]any{"x5t#S256": thumbprint("shown")}}, nil, false},
		{"DPoP", map[string]any{"cnf": map[string]any{"jkt": thumbprint("shown")}}, shown, false},
		{"both", map[string]any{"cnf": map[string]any{"jkt": "x", "x5t#S256": thumbprint("shown")}}, shown, false},
		{"nothing", map[string]any{"cnf": map[string]any{}}, none, false},
		{"null", map[string]any{"cnf": nil}, none, false},
		{"a text", map[string]any{"cnf": "x"}, shown, false},
		{"no hash", map[string]any{"cnf": map[string]any{"x5t#S256": ""}}, none, false},
	} {
		var x exchange.Exchange
		x.TLS = c.tls
		if got := NewMapping(nil, "", "", "").Client(c.claims, "Bearer").Proves(&x); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
