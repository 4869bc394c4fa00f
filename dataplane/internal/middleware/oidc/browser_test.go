package oidc

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
)

// openID is an OpenID provider that signs everybody in.
type openID struct {
	*httptest.Server
	key     ed25519.PrivateKey
	changes atomic.Pointer[func(claims map[string]any)] // what is wrong with the next ID token
	refuses atomic.Bool                                 // refresh tokens
	renewed atomic.Int32
	renews  atomic.Pointer[func()] // is called before a refresh token is taken

	mu        sync.Mutex
	codes     map[string]url.Values // what they were asked for with
	now       time.Time
	expiresIn any
}

func newOpenID(t *testing.T) *openID {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &openID{key: key, codes: map[string]url.Values{}, now: time.Now(), expiresIn: 300}
	none := func(map[string]any) {}
	p.changes.Store(&none)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token",
			"jwks_uri": p.URL + "/keys", "end_session_endpoint": p.URL + "/end",
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":%q}]}`, x)
	})
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// signIn is what a user does there: it returns where the browser is sent back to.
func (p *openID) signIn(at string) string {
	u, _ := url.Parse(at)
	q := u.Query()
	code := rand.Text()
	p.mu.Lock()
	p.codes[code] = q
	p.mu.Unlock()
	back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {p.URL}}
	return q.Get("redirect_uri") + "?" + back.Encode()
}

func (p *openID) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	if renews := p.renews.Load(); renews != nil && r.PostFormValue("grant_type") == "refresh_token" {
		(*renews)()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	claims := map[string]any{"iss": p.URL, "aud": "shop", "sub": "u", "email": "u@example"}
	claims["exp"] = p.now.Add(time.Hour).Unix()
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		q, ok := p.codes[r.PostFormValue("code")]
		delete(p.codes, r.PostFormValue("code"))
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !ok || id != "shop" || secret != "secret" || r.PostFormValue("redirect_uri") != q.Get("redirect_uri") ||
			base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge") || q.Get("code_challenge_method") != "S256" {
			w.WriteHeader(400)
			return
		}
		claims["nonce"] = q.Get("nonce")
	case "refresh_token":
		p.renewed.Add(1)
		if p.refuses.Load() {
			w.WriteHeader(400)
			return
		}
		claims["email"] = "new@example"
	}
	(*p.changes.Load())(claims)
	payload, _ := json.Marshal(claims)
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"k"}`)) + "." +
		base64.RawURLEncoding.EncodeToString(payload)
	text := signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(p.key, []byte(signed)))
	answer := map[string]any{"id_token": text, "refresh_token": rand.Text(), "expires_in": p.expiresIn}
	_ = json.NewEncoder(w).Encode(answer)
}

// browser is a user's, which keeps cookies.
type browser struct {
	step    *step
	scheme  string
	cookies map[string]string
}

func newBrowser(s *step) *browser { return &browser{s, "https", map[string]string{}} }

// get asks for a page, and keeps the cookies that it is given.
func (b *browser) get(target string, fields ...string) (*exchange.Exchange, exchange.Verdict) {
	x := &exchange.Exchange{}
	x.Scheme, x.Request.Method, x.Request.Host = b.scheme, "GET", "shop.example"
	x.Request.Path, x.Request.RawQuery, x.Request.HasQuery = cut(target)
	if len(fields) == 0 {
		x.Request.Header.Add("Accept", "text/html,*/*")
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.Request.Header.Add(name, value)
	}
	var all []string
	for name, value := range b.cookies {
		all = append(all, name+"="+value)
	}
	if len(all) > 0 {
		x.Request.Header.Add("Cookie", strings.Join(all, "; "))
	}
	v := b.step.Request(x)
	b.step.Response(x)
	for set := range x.Response.Header.Values("Set-Cookie") {
		pair, attributes, _ := strings.Cut(set, "; ")
		name, value, _ := strings.Cut(pair, "=")
		if b.cookies[name] = value; strings.Contains(attributes, "Max-Age=0") {
			delete(b.cookies, name)
		}
	}
	return x, v
}

func cut(target string) (path, query string, has bool) { return strings.Cut(target, "?") }

// signIn goes to the provider and back, and returns the answer to that.
func (b *browser) signIn(t *testing.T, p *openID, target string) (*exchange.Exchange, exchange.Verdict) {
	t.Helper()
	x, _ := b.get(target)
	if x.Response.Status != 302 {
		t.Fatalf("no redirect: %d %s", x.Response.Status, x.Response.Message)
	}
	to := p.signIn(x.Response.Header.Get("Location"))
	return b.get(strings.TrimPrefix(to, b.scheme+"://shop.example"))
}
