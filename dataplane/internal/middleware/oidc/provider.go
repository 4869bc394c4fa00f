package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"gateway.internal/dataplane/internal/egress"
	"gateway.internal/dataplane/internal/jwks"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/shared/jose"
)

const (
	maxMetadataBytes = 64 << 10
	maxTokenBytes    = 64 << 10
	// metadataAge is how long a provider's settings count, and retryInterval the least time between two tries to get them.
	metadataAge   = time.Hour
	retryInterval = time.Second
)

// metadata is a provider's settings (OpenID Connect Discovery 1.0 section 3).
type metadata struct {
	Issuer     string `json:"issuer"`
	Authorize  string `json:"authorization_endpoint"`
	Token      string `json:"token_endpoint"`
	Keys       string `json:"jwks_uri"`
	EndSession string `json:"end_session_endpoint"`
	since      time.Time
}

// provider is an OpenID provider. It is safe for concurrent use.
type provider struct {
	issuer, clientID, secret string
	client                   *egress.Client
	keys                     *jwks.Source
	rules                    jose.Rules

	context context.Context //nolint:containedctx // it is as long as the provider is kept
	stop    context.CancelFunc
	asking  sync.WaitGroup

	mu      sync.Mutex
	known   *metadata
	tried   time.Time     // when the last try ended
	trying  chan struct{} // closed at the end of the one that is under way; nil: none is
	lastErr error
	closed  bool
}

func newProvider(issuer, clientID, secret string, env *pipeline.Environment) *provider {
	p := &provider{
		issuer: issuer, clientID: clientID, secret: secret, client: env.Egress,
		rules: jose.Rules{Issuer: issuer, Audiences: []string{clientID}, ClockSkew: 5 * time.Second},
	}
	p.context, p.stop = context.WithCancel(context.Background())
	p.keys = jwks.New(jwks.Settings{
		Fetch: func(ctx context.Context) (*egress.Response, error) {
			m, err := p.metadata(ctx)
			if err != nil {
				return nil, err
			}
			return jwks.FetchURL(p.client, m.Keys)(ctx)
		},
		Name: issuer, Log: env.Log, Metrics: env.Metrics,
	})
	return p
}

// Close ends what is fetched.
func (p *provider) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.asking.Wait()
	return p.keys.Close()
}

// metadata returns the provider's settings. They are fetched apart from the requests that want them: one that breaks off
// does not fail the others, and those that are known do while they are fetched again.
func (p *provider) metadata(ctx context.Context) (*metadata, error) {
	p.mu.Lock()
	if p.known == nil || time.Since(p.known.since) >= metadataAge {
		p.try()
	}
	known, trying, err := p.known, p.trying, p.lastErr
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	if trying == nil {
		return nil, err
	}
	select {
	case <-trying:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		return nil, p.lastErr
	}
	return p.known, nil
}

// try begins to fetch the settings, unless that is under way or was done a moment ago. The caller holds mu.
func (p *provider) try() {
	if p.closed {
		p.lastErr = context.Canceled
		return
	}
	if p.trying != nil || time.Since(p.tried) < retryInterval {
		return
	}
	trying := make(chan struct{})
	p.trying = trying
	p.asking.Go(func() {
		ctx, cancel := context.WithTimeout(p.context, askTimeout)
		defer cancel()
		m, err := p.discover(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.lastErr = err; err == nil {
			p.known = m
		}
		p.tried, p.trying = time.Now(), nil
		close(trying)
	})
}

func (p *provider) discover(ctx context.Context) (*metadata, error) {
	at := strings.TrimSuffix(p.issuer, "/") + "/.well-known/openid-configuration"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	res, err := p.client.Do(r, maxMetadataBytes)
	if err != nil {
		return nil, err
	}
	if res.Status != http.StatusOK {
		return nil, fmt.Errorf("the provider answers with %d to %s", res.Status, at)
	}
	m := &metadata{since: time.Now()}
	if err := json.Unmarshal(res.Body, m); err != nil {
		return nil, errors.New("the provider's settings are no JSON")
	}
	if m.Issuer != p.issuer { // section 4.3: exactly
		return nil, errors.New("the provider says that it is another issuer than the settings name")
	}
	for name, text := range map[string]string{
		"authorization_endpoint": m.Authorize, "token_endpoint": m.Token, "jwks_uri": m.Keys,
	} {
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" ||
			u.Fragment != "" {
			return nil, fmt.Errorf("the provider's %s is no URL", name)
		}
	}
	if u, err := url.Parse(m.EndSession); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		m.EndSession = "" // sessions end here alone then
	}
	return m, nil
}

// tokens is what a provider issues.
type tokens struct {
	ID        string  `json:"id_token"`
	Refresh   string  `json:"refresh_token"`
	ExpiresIn seconds `json:"expires_in"`
}

// seconds is a number in JSON, which some providers write as a text.
type seconds float64

// UnmarshalJSON implements json.Unmarshaler.
func (s *seconds) UnmarshalJSON(text []byte) error {
	if len(text) > 1 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	return json.Unmarshal(text, (*float64)(s))
}

// errRefused is a provider that refuses the code, or the refresh token: asking again is of no use.
var errRefused = errors.New("the provider refuses it")

// redeem asks for tokens (RFC 6749 sections 4.1.3 and 6).
func (p *provider) redeem(ctx context.Context, form url.Values) (*tokens, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, err
	}
	form.Set("client_id", p.clientID)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	if p.secret != "" {
		r.SetBasicAuth(url.QueryEscape(p.clientID), url.QueryEscape(p.secret))
	}
	res, err := p.client.Do(r, maxTokenBytes)
	switch {
	case err != nil:
		return nil, err
	case res.Status == 400 || res.Status == 401:
		return nil, errRefused
	case res.Status != 200:
		return nil, fmt.Errorf("the provider answers with %d", res.Status)
	}
	t := &tokens{}
	if err := json.Unmarshal(res.Body, t); err != nil {
		return nil, errors.New("the provider's tokens are no JSON")
	}
	return t, nil
}

// verify reads an ID token (OpenID Connect Core 1.0 section 3.1.3.7).
func (p *provider) verify(ctx context.Context, text string, now time.Time) (map[string]any, error) {
	t, refusal := jose.Parse(text)
	if refusal != nil {
		return nil, refusal
	}
	if _, refusal := p.rules.Check(t, now); refusal != nil {
		return nil, refusal
	}
	if list, several := t.Claims["aud"].([]any); several && len(list) > 1 && t.Claims["azp"] != p.clientID {
		return nil, errors.New("the ID token was issued to another client")
	}
	set, err := p.keys.Wait(ctx)
	if err != nil {
		return nil, err
	}
	_, refusal = set.Verify(t)
	if refusal != nil && (refusal.Reason == jose.UnknownKey || !t.HasKeyID) && p.keys.Refresh(ctx) {
		_, refusal = p.keys.Set().Verify(t)
	}
	if refusal != nil {
		return nil, refusal
	}
	return t.Claims, nil
}
