package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spf13/pflag"

	"gateway.internal/shared/config"
)

const (
	// providerTimeout is how long the identity provider may take for an answer, maxProviderBytes how long that may be.
	providerTimeout  = 5 * time.Second
	maxProviderBytes = 1 << 20
	// providerInterval is how often the identity provider is asked at most. Whoever makes up tokens with keys that nobody
	// knows would otherwise have it asked for each.
	providerInterval = 5 * time.Second
	// maxVerified is how many verified tokens are remembered, until they end.
	maxVerified = 1_000
	// maxJWT is the longest token that is looked at.
	maxJWT = 16 << 10
)

// ByOIDC is a token of an identity provider.
const ByOIDC Method = "oidc"

// algorithms are those of signatures by keys that the control plane only knows the public half of.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// OIDCFlags are the settings of an identity provider.
type OIDCFlags struct {
	issuer, audience, roleClaim, nameClaim, caFile string
	roles                                          []string
}

// Bind adds the flags.
func (f *OIDCFlags) Bind(set *pflag.FlagSet) {
	set.StringVar(&f.issuer, "oidc-issuer", "",
		"URL of an OpenID provider whose tokens let in to the admin API; empty: none")
	set.StringVar(&f.audience, "oidc-audience", "", "what the tokens have to be for (claim aud)")
	set.StringVar(&f.roleClaim, "oidc-role-claim", "roles",
		"claim with the roles: a text, or a list of texts; realm_access.roles is one within another")
	set.StringVar(&f.nameClaim, "oidc-name-claim", "sub",
		"claim with the name that is seen to act; with email, the claim email_verified has to be true")
	set.StringSliceVar(&f.roles, "oidc-roles", nil,
		"values of the role claim and the roles that they stand for, VALUE=ROLE or "+
			"VALUE=ROLE:KIND+KIND:LABEL=VALUE to confine it; without it the values are roles' names")
	set.StringVar(&f.caFile, "oidc-ca-file", "",
		"PEM file with the authorities that the provider's certificate may be from; empty: the system's")
}

// grant is what a value of the role claim stands for.
type grant struct {
	role  Role
	scope Scope
}

// OIDC lets in who has a token of an identity provider. It is safe for concurrent use.
type OIDC struct {
	issuer, audience, roleClaim, nameClaim string
	grants                                 map[string]grant
	client                                 *http.Client
	log                                    *slog.Logger

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil: the provider was not reached yet
	verified map[Hash]*Identity
}

// OIDC returns what the flags say; nil: there is no identity provider.
func (f *OIDCFlags) OIDC(log *slog.Logger) (*OIDC, error) {
	if f.issuer == "" {
		if f.audience != "" || len(f.roles) > 0 {
			return nil, errors.New("--oidc-audience and --oidc-roles need --oidc-issuer")
		}
		return nil, nil //nolint:nilnil // there is none
	}
	u, err := url.Parse(f.issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("--oidc-issuer %q: has to be an https URL (http only at a loopback address)", f.issuer)
	}
	if f.audience == "" {
		return nil, errors.New("--oidc-audience: is required, or a token that was made for another service would let in")
	}
	o := &OIDC{issuer: f.issuer, audience: f.audience, roleClaim: f.roleClaim, nameClaim: f.nameClaim, log: log,
		grants: map[string]grant{}, verified: map[Hash]*Identity{}}
	for _, text := range f.roles {
		value, g, err := parseGrant(text)
		if err != nil {
			return nil, fmt.Errorf("--oidc-roles %q: %w", text, err)
		}
		o.grants[value] = g
	}
	if len(f.roles) == 0 {
		for _, name := range Roles() {
			role, _ := ParseRole(name)
			o.grants[name] = grant{role: role}
		}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConns:    2, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: providerTimeout, ForceAttemptHTTP2: true}
	if f.caFile != "" {
		text, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, fmt.Errorf("--oidc-ca-file: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--oidc-ca-file: %s has no PEM certificate", f.caFile)
		}
	}
	o.client = &http.Client{Transport: &seldom{next: transport}, Timeout: providerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the identity provider redirects, which is not followed")
		}}
	return o, nil
}

// parseGrant reads "VALUE=ROLE:KIND+KIND:LABEL=VALUE+LABEL=VALUE".
func parseGrant(text string) (value string, g grant, err error) {
	const form = "has to be VALUE=ROLE, or VALUE=ROLE:routes+services:team=a"
	value, rest, ok := strings.Cut(text, "=")
	parts := strings.Split(rest, ":")
	if !ok || value == "" || len(parts) > 3 {
		return "", g, errors.New(form)
	}
	if g.role, err = ParseRole(parts[0]); err != nil {
		return "", g, fmt.Errorf("role %q: %w", parts[0], err)
	}
	if len(parts) > 1 && parts[1] != "" {
		for _, name := range strings.Split(parts[1], "+") {
			k, err := config.ParseKind(name)
			if err != nil {
				return "", g, err
			}
			g.scope.Kinds = append(g.scope.Kinds, k)
		}
	}
	if len(parts) > 2 && parts[2] != "" {
		g.scope.Labels = map[string]string{}
		for _, label := range strings.Split(parts[2], "+") {
			key, v, ok := strings.Cut(label, "=")
			if !ok || key == "" {
				return "", g, errors.New(form)
			}
			g.scope.Labels[key] = v
		}
	}
	if g.role == Admin && !g.scope.IsAll() {
		return "", g, errors.New("the role admin can't be confined")
	}
	return value, g, nil
}

// isJWT reports whether a text looks like a token of an identity provider: three parts, the first of which is JSON.
func isJWT(text string) bool {
	return len(text) <= maxJWT && strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2
}

// ErrProviderAway says that nobody knows whether a token of the identity provider counts: its keys could not be had
// since the control plane began.
var ErrProviderAway = errors.New("the identity provider can't be asked whether the token counts; try again in a moment")

// lookup returns whom a token lets in. It is ErrNobody when that is nobody, and ErrProviderAway when nobody knows.
func (o *OIDC) lookup(ctx context.Context, text string) (*Identity, error) {
	hash := HashOf(text)
	o.mu.Lock()
	known := o.verified[hash]
	o.mu.Unlock()
	if known != nil && time.Now().Before(known.Expires) {
		return known, nil
	}
	verifier, err := o.ready(ctx)
	if err != nil {
		o.log.WarnContext(ctx, "the identity provider can't be asked", "issuer", o.issuer, "error", err.Error())
		return nil, ErrProviderAway
	}
	token, err := verifier.Verify(oidc.ClientContext(ctx, o.client), text)
	if err != nil {
		o.log.InfoContext(ctx, "a token of the identity provider was refused", "error", err.Error())
		return nil, ErrNobody
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return nil, ErrNobody
	}
	id := o.identity(claims, token.Expiry)
	if id == nil {
		return nil, ErrNobody
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.verified) >= maxVerified {
		now := time.Now()
		for h, one := range o.verified {
			if len(o.verified) > maxVerified/2 || now.After(one.Expires) {
				delete(o.verified, h)
			}
		}
	}
	o.verified[hash] = id
	return id, nil
}

// ready returns the verifier, once the provider was reached.
func (o *OIDC) ready(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	v := o.verifier
	o.mu.Unlock()
	if v != nil {
		return v, nil
	}
	// Keys are fetched long after the call that is the first.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), o.client), o.issuer)
	if err != nil {
		return nil, err
	}
	v = provider.Verifier(&oidc.Config{ClientID: o.audience, SupportedSigningAlgs: algorithms})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.verifier = v
	return v, nil
}

// identity returns whom claims stand for; nil: nobody. Of several roles the one that may do most is meant, and of
// those that may do as much the one that is not confined.
func (o *OIDC) identity(claims map[string]any, expires time.Time) *Identity {
	name, _ := claimAt(claims, o.nameClaim).(string)
	if verified, _ := claims["email_verified"].(bool); name == "" || o.nameClaim == "email" && !verified {
		return nil
	}
	if len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil
	}
	var best *grant
	for _, value := range textsOf(claimAt(claims, o.roleClaim)) {
		if g, ok := o.grants[value]; ok && (best == nil || g.role > best.role || g.role == best.role && g.scope.IsAll()) {
			best = &g
		}
	}
	if best == nil {
		return nil
	}
	return &Identity{Name: "oidc:" + name, Method: ByOIDC, Role: best.role, Scope: best.scope, User: name,
		Expires: expires}
}

// claimAt returns a claim, or one within another.
func claimAt(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok { // names of claims may have dots: https://example.com/roles
		return v
	}
	first, rest, ok := strings.Cut(path, ".")
	within, _ := claims[first].(map[string]any)
	if !ok || within == nil {
		return nil
	}
	return claimAt(within, rest)
}

func textsOf(v any) (out []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
	}
	return slices.Compact(out)
}

func isLoopback(host string) bool {
	return host == "localhost" || network(host).IsValid() && network(host).Addr().IsLoopback() || host == "::1"
}

// seldom asks for a URL once in providerInterval, and bounds what is read.
type seldom struct {
	next http.RoundTripper

	mu    sync.Mutex
	asked map[string]time.Time
}

// RoundTrip implements http.RoundTripper.
func (s *seldom) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	if s.asked == nil {
		s.asked = map[string]time.Time{}
	}
	at, now := s.asked[r.URL.String()], time.Now()
	if now.Sub(at) < providerInterval {
		s.mu.Unlock()
		return nil, errors.New("was asked just now")
	}
	s.asked[r.URL.String()] = now
	s.mu.Unlock()
	res, err := s.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxProviderBytes), res.Body}
	return res, nil
}
