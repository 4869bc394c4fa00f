package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gateway.internal/shared/config"
)

// issuer is an identity provider with one key.
type issuer struct {
	*httptest.Server
	key   *ecdsa.PrivateKey
	asked atomic.Int32 // for its keys
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys",
			"authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		raw, _ := key.PublicKey.Bytes()
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "kid": "1",
			"alg": "ES256", "use": "sig", "x": b64(raw[1:33]), "y": b64(raw[33:])}}})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token signs claims, on top of those that every token has.
func (i *issuer) token(t *testing.T, header, claims map[string]any) string {
	t.Helper()
	h := map[string]any{"alg": "ES256", "kid": "1"}
	maps.Copy(h, header)
	c := map[string]any{"iss": i.URL, "aud": "gateway", "sub": "ann", "exp": time.Now().Add(time.Hour).Unix(),
		"iat": time.Now().Unix(), "roles": []string{"editor"}}
	maps.Copy(c, claims)
	hj, _ := json.Marshal(h)
	cj, _ := json.Marshal(c)
	text := b64(hj) + "." + b64(cj)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := append(fill(r), fill(s)...)
	if h["alg"] == "none" {
		signature = nil
	}
	return text + "." + b64(signature)
}

func fill(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

func (i *issuer) trusting(t *testing.T, f OIDCFlags) *Tokens {
	t.Helper()
	f.issuer, f.audience = i.URL, "gateway"
	if f.roleClaim == "" {
		f.roleClaim = "roles"
	}
	if f.nameClaim == "" {
		f.nameClaim = "sub"
	}
	o, err := f.OIDC(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.client.CloseIdleConnections)
	t.Cleanup(o.client.Transport.(*seldom).next.(*http.Transport).CloseIdleConnections)
	tokens := NewTokens(nil, "the-administrators-token", slog.New(slog.DiscardHandler))
	tokens.Trust(o)
	return tokens
}

func TestTokensOfAnIdentityProvider(t *testing.T) {
	i := newIssuer(t)
	other := newIssuer(t)
	other.URL = i.URL // its tokens say so
	tokens := i.trusting(t, OIDCFlags{})
	for _, c := range []struct {
		name  string
		token string
		want  Role
	}{
		{"a role", i.token(t, nil, nil), Editor},
		{"the best of several", i.token(t, nil, map[string]any{"roles": []any{"viewer", "admin", 7, "x"}}), Admin},
		{"one text", i.token(t, nil, map[string]any{"roles": "viewer"}), Viewer},
		{"several audiences", i.token(t, nil, map[string]any{"aud": []string{"x", "gateway"}}), Editor},
		{"no role", i.token(t, nil, map[string]any{"roles": nil}), 0},
		{"a role that is none", i.token(t, nil, map[string]any{"roles": "root"}), 0},
		{"no name", i.token(t, nil, map[string]any{"sub": ""}), 0},
		{"a name of two lines", i.token(t, nil, map[string]any{"sub": "a\nadmin"}), 0},
		{"another audience", i.token(t, nil, map[string]any{"aud": "shop"}), 0},
		{"another issuer", i.token(t, nil, map[string]any{"iss": "https://evil.example"}), 0},
		{"over", i.token(t, nil, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), 0},
		{"not yet", i.token(t, nil, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}), 0},
		{"no algorithm", i.token(t, map[string]any{"alg": "none"}, nil), 0},
		{"a symmetric algorithm", i.token(t, map[string]any{"alg": "HS256"}, nil), 0},
		{"another key", other.token(t, nil, nil), 0},
		{"a key that is unknown", i.token(t, map[string]any{"kid": "2"}, nil), 0},
		{"a tampered signature", i.token(t, nil, nil)[:100] + "AAAA", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := tokens.Lookup(t.Context(), c.token)
			switch {
			case c.want == 0 && !errors.Is(err, ErrNobody):
				t.Errorf("%v, %v", id, err)
			case c.want != 0 && (err != nil || id.Role != c.want || id.Method != ByOIDC || id.Name != "oidc:ann" ||
				id.Expires.IsZero()):
				t.Errorf("%v, %v", id, err)
			}
		})
	}
	// Whoever makes up keys does not have the provider asked each time.
	for n := range 50 {
		_, _ = tokens.Lookup(t.Context(), i.token(t, map[string]any{"kid": fmt.Sprint("made-up-", n)}, nil))
	}
	if n := i.asked.Load(); n > 3 {
		t.Errorf("the provider was asked for its keys %d times", n)
	}
	i.Close() // known tokens go on
	if _, err := tokens.Lookup(context.Background(), i.token(t, nil, nil)); err != nil {
		t.Errorf("while the provider is away: %v", err)
	}
}

func TestRulesForClaims(t *testing.T) {
	i := newIssuer(t)
	tokens := i.trusting(t, OIDCFlags{roleClaim: "realm_access.roles", nameClaim: "email",
		roles: []string{"platform=admin", "team-a=editor:routes+services:team=a", "sre=operator"}})
	with := func(role string, more map[string]any) (*Identity, error) {
		claims := map[string]any{"realm_access": map[string]any{"roles": []string{role}}, "email": "ann@example.com",
			"email_verified": true}
		maps.Copy(claims, more)
		return tokens.Lookup(t.Context(), i.token(t, nil, claims))
	}
	id, err := with("team-a", nil)
	want := Scope{Kinds: []config.Kind{config.Route, config.Service}, Labels: map[string]string{"team": "a"}}
	if err != nil || id.Role != Editor || id.Name != "oidc:ann@example.com" || cmp.Diff(want, id.Scope) != "" {
		t.Errorf("%+v, %v", id, err)
	}
	if id, err := with("platform", nil); err != nil || id.Role != Admin || !id.Scope.IsAll() {
		t.Errorf("%+v, %v", id, err)
	}
	if _, err := with("editor", nil); !errors.Is(err, ErrNobody) {
		t.Errorf("a role's name, which stands for nothing: %v", err)
	}
	if _, err := with("platform", map[string]any{"email_verified": false}); !errors.Is(err, ErrNobody) {
		t.Errorf("an address that nobody has verified: %v", err)
	}
}

// TestAProviderThatIsAway: a token may be right where the provider's keys could not be had.
func TestAProviderThatIsAway(t *testing.T) {
	i := newIssuer(t)
	i.Close()
	tokens := i.trusting(t, OIDCFlags{})
	if id, err := tokens.Lookup(t.Context(), i.token(t, nil, nil)); !errors.Is(err, ErrProviderAway) {
		t.Errorf("%v, %v", id, err)
	}
}

func TestOIDCFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		f    OIDCFlags
		want string
	}{
		{"no issuer", OIDCFlags{audience: "a"}, "need --oidc-issuer"},
		{"no audience", OIDCFlags{issuer: "https://idp.example"}, "--oidc-audience"},
		{"in the clear", OIDCFlags{issuer: "http://idp.example", audience: "a"}, "https"},
		{"no URL", OIDCFlags{issuer: "idp.example", audience: "a"}, "https"},
		{"no role", OIDCFlags{issuer: "https://idp.example", audience: "a", roles: []string{"x"}}, "VALUE=ROLE"},
		{"another role", OIDCFlags{issuer: "https://idp.example", audience: "a", roles: []string{"x=root"}}, "viewer"},
		{"another kind", OIDCFlags{issuer: "https://idp.example", audience: "a", roles: []string{"x=editor:cats"}}, "cats"},
		{"a label", OIDCFlags{issuer: "https://idp.example", audience: "a", roles: []string{"x=editor::team"}}, "VALUE=ROLE"},
		{"an administrator of some", OIDCFlags{issuer: "https://idp.example", audience: "a",
			roles: []string{"x=admin:routes"}}, "confined"},
		{"no file", OIDCFlags{issuer: "https://idp.example", audience: "a", caFile: "/nothing"}, "--oidc-ca-file"},
	} {
		if _, err := c.f.OIDC(slog.Default()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
