package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// provider is the OpenID provider of e2e/tools/openid.
type provider struct {
	*process
	issuer string
}

// newProvider starts it for clients that come back to origins, or skips the test: make openid installs it.
func newProvider(t *testing.T, origins ...string) *provider {
	t.Helper()
	if os.Getenv("GATEWAY_OPENID") == "" {
		t.Skip("make openid runs it")
	}
	modules, err := testserver.FindTool(filepath.Join("openid", "ready"))
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(testserver.FreePort(t))
	args := append([]string{filepath.Join(filepath.Dir(modules), "provider.js"), port}, origins...)
	p := &provider{process: launch(t, tool(t, "node"), nil, args...), issuer: "http://127.0.0.1:" + port}
	p.answers()
	return p
}

func (p *provider) answers() {
	p.t.Helper()
	waittest.UntilNil(p.t, "the provider", func() error {
		return status(strings.TrimPrefix(p.issuer, "http://"), "/.well-known/openid-configuration", 200)
	})
}

// openID is a node whose users an OpenID provider signs in.
type openID struct {
	*testing.T
	provider *provider
	issuer   string
	g        *gateway
	node     *node
	reports  chan report
}

// report is what a page in a browser tells.
type report struct{ Name, Got string }

// newOpenID starts all that, or skips the test.
func newOpenID(t *testing.T) *openID {
	t.Helper()
	at := address(t)
	_, nodePort, _ := strings.Cut(at, ":")
	p := &openID{T: t, provider: newProvider(t, "http://"+at, "http://gateway.localhost:"+nodePort),
		reports: make(chan report, 10)}
	p.g, p.issuer = newGateway(t), p.provider.issuer
	p.node = p.g.node("n1", "--http-addr", at)
	p.node.http = at
	app := httptest.NewServer(http.HandlerFunc(p.app))
	t.Cleanup(app.Close)
	host, appPort, _ := strings.Cut(strings.TrimPrefix(app.URL, "http://"), ":")
	p.g.must(fmt.Sprintf(`services: [{name: app, endpoints: [{host: %s, port: %s}]}]
routes:
  - {name: app, path: /*, service_id: app, pipeline_id: users}
  - {name: signed, path: /signed/*, service_id: app, pipeline_id: signed}
  - {name: opaque, path: /opaque/*, service_id: app, pipeline_id: opaque}
  - {name: desk, path: /desk/*, service_id: app, pipeline_id: desk}
middleware:
  - name: users
    type: oidc
    config:
      issuer: %[3]s
      client_id: shop
      client_secret: secret-of-the-shop
      session_secret: 0123456789abcdef0123456789abcdef
      claims_to_headers: {sub: X-User}
      exclude_paths: [/, /report]
  - name: desk
    type: oidc
    config:
      issuer: %[3]s
      client_id: desk
      client_secret: secret-of-the-desk
      session_secret: 0123456789abcdef0123456789abcdef
      redirect_path: /desk/callback
      logout_path: /desk/logout
      cookie_name: desk
      claims_to_headers: {sub: X-User}
  - name: signed
    type: jwt
    config:
      issuers: [{issuer: %[3]s, audiences: ["http://api.example"], jwks_url: %[3]s/jwks, algorithms: [RS256]}]
      claims_to_headers: {sub: X-User}
  - name: opaque
    type: oauth2_introspection
    config:
      url: %[3]s/token/introspection
      client_id: api
      client_secret: secret-of-the-api
      cache_ttl: 0s
      claims_to_headers: {client_id: X-User}
pipelines:
  - {name: users, middleware_ids: [users]}
  - {name: signed, middleware_ids: [signed]}
  - {name: opaque, middleware_ids: [opaque]}
  - {name: desk, middleware_ids: [desk]}
`, host, appPort, p.issuer), "apply", "-f", "-")
	p.node.runs(1)
	return p
}

// app is the service.
func (p *openID) app(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/page", "/":
		name := "page.html"
		if r.URL.Path == "/" {
			name = "out.html"
		}
		http.ServeFile(w, r, filepath.Join("testdata", "openid", name))
	case "/report":
		var told report
		if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.reports <- told
	default:
		_ = json.NewEncoder(w).Encode(map[string]string{"user": r.Header.Get("X-User"), "cookie": r.Header.Get("Cookie")})
	}
}

// user is a browser without scripts: it sends forms of the provider as scripts of the provider's pages do.
type user struct {
	*openID
	http.Client
}

func (p *openID) newUser() *user {
	jar, _ := cookiejar.New(nil) // it has no error without options
	return &user{p, http.Client{Jar: jar, Timeout: waittest.Limit}}
}

// open opens a page, and returns the one that it comes to, with how many forms were sent on the way.
func (u *user) open(at string) (status int, body string, last *url.URL, forms int) {
	u.Helper()
	method, data := http.MethodGet, ""
	for {
		req, err := http.NewRequestWithContext(u.Context(), method, at, strings.NewReader(data))
		if err != nil {
			u.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		res, err := u.Do(req)
		if err != nil {
			u.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			u.Fatal(err)
		}
		last = res.Request.URL
		_, form, has := strings.Cut(string(text), "<form")
		if !has || "http://"+last.Host != u.issuer {
			return res.StatusCode, string(text), last, forms
		}
		if forms++; forms > 5 {
			u.Fatalf("the provider asks and asks: %s", text)
		}
		action, err := last.Parse(attribute(form, "action"))
		if err != nil {
			u.Fatal(err)
		}
		fields := make(url.Values)
		for _, input := range strings.Split(form, "<input")[1:] {
			fields.Set(attribute(input, "name"), attribute(input, "value"))
		}
		method, at, data = http.MethodPost, action.String(), fields.Encode()
	}
}

// attribute returns the first attribute of a name.
func attribute(html, name string) string {
	_, rest, _ := strings.Cut(html, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// sees checks what a page at the node comes to: the service's answer for ann.
func (u *user) sees(path string, wantForms int) {
	u.Helper()
	status, body, last, forms := u.open("http://" + u.node.http + path)
	var got struct{ User, Cookie string }
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || got.User != "ann" || last.Path != path {
		u.Fatalf("%s: %d at %s: %s", path, status, last, body)
	}
	own := "session"
	if strings.HasPrefix(path, "/desk/") {
		own = "desk"
	}
	for one := range strings.SplitSeq(got.Cookie, "; ") { // the provider's are of the same host, and begin with "_"
		if strings.HasPrefix(one, own) {
			u.Errorf("%s: the service gets %s", path, one)
		}
	}
	if forms != wantForms {
		u.Errorf("%s: %d forms on the way, want %d", path, forms, wantForms)
	}
}

// TestOpenIDUsers signs users in at a certified provider, as they come and go.
func TestOpenIDUsers(t *testing.T) {
	p := newOpenID(t)
	u := p.newUser()
	u.sees("/api", 2) // who they are, and that they agree
	u.sees("/other", 0)
	waittest.Until(t, "the session is prolonged", func() bool { // the provider's tokens end after two seconds
		u.sees("/api", 0)
		_, text := get(t, "http://"+p.node.status+"/metrics")
		return strings.Contains(text, `gateway_oidc_refreshed_total{middleware="users"} `) &&
			!strings.Contains(text, `gateway_oidc_refreshed_total{middleware="users"} 0`)
	})

	t.Run("two windows begin at once", func(t *testing.T) {
		v := p.newUser()
		v.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		var begun []string
		for _, path := range []string{"/one", "/two"} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.node.http+path, nil)
			req.Header.Set("Accept", "text/html")
			res, err := v.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			begun = append(begun, res.Header.Get("Location"))
		}
		v.CheckRedirect = nil
		for i, path := range []string{"/one", "/two"} {
			if status, body, last, _ := v.open(begun[i]); status != 200 || last.Path != path {
				t.Errorf("%s: %d at %s: %s", path, status, last, body)
			}
		}
	})
	t.Run("forged answers", func(t *testing.T) {
		v := p.newUser()
		for _, query := range []string{"", "?code=x", "?code=x&state=y", "?error=access_denied&state=y"} {
			status, body, _, _ := v.open("http://" + p.node.http + "/oauth2/callback" + query)
			if status < 400 || status >= 500 {
				t.Errorf("%q: %d %s", query, status, body)
			}
		}
	})
	t.Run("the node restarts", func(t *testing.T) {
		v := p.newUser()
		v.sees("/api", 2)
		p.node.kill()
		p.node.start()
		p.node.runs(1)
		v.sees("/api", 0)
	})
	t.Run("the provider is away", func(t *testing.T) {
		v := p.newUser()
		v.sees("/api", 2)
		v.sees("/desk/x", 1) // the provider knows who it is
		p.provider.kill()
		v.sees("/desk/x", 0)
		p.node.kill()
		p.node.start()
		p.node.runs(1)
		v.sees("/desk/x", 0)
		waittest.Until(t, "the session of short tokens is due", func() bool {
			status, body, _, _ := v.open("http://" + p.node.http + "/api")
			if status != 200 && status != 503 {
				t.Fatalf("%d %s", status, body)
			}
			return status == 503
		})
		v.sees("/desk/x", 0)
		p.provider.start() // it has new keys, and knows nobody any more
		p.provider.answers()
		v.sees("/desk/x", 0)
		waittest.Until(t, "the node has asked the provider again", func() bool {
			status, body, last, forms := v.open("http://" + p.node.http + "/api")
			if status != 503 && (status != 200 || last.Path != "/api" || forms != 2) {
				t.Fatalf("%d at %s by %d forms: %s", status, last, forms, body)
			}
			return status == 200
		})
		v.sees("/desk/x", 0)
	})
	t.Run("signing out", func(t *testing.T) {
		v := p.newUser()
		v.sees("/api", 2)
		if status, body, last, _ := v.open("http://" + p.node.http + "/oauth2/logout"); status != 200 || last.Path != "/" ||
			last.Host != p.node.http || !strings.Contains(body, "signed out") {
			t.Errorf("%d at %s: %s", status, last, body)
		}
		v.sees("/api", 2) // the provider has forgotten who it was, too
	})
}

// TestOpenIDInChromium has a browser sign in, act, and sign out by itself. The gateway is another site than the
// provider to it.
func TestOpenIDInChromium(t *testing.T) {
	p := newOpenID(t)
	_, port, _ := strings.Cut(p.node.http, ":")
	startChromium(t, "http://gateway.localhost:"+port+"/page?a=b&c=%20d")
	got := map[string]string{}
	for {
		r := waittest.Receive(t, "what the page tells", p.reports)
		if r.Name == "end" {
			break
		}
		got[r.Name] = r.Got
	}
	for name, want := range map[string]string{
		"script": "200 ann", "cookies that scripts see": "", "address": "/page?a=b&c=%20d", "script after signing out": "401",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

// tokenOf asks for a token of a client's own.
func (p *provider) tokenOf(client string, fields url.Values) string {
	p.t.Helper()
	fields.Set("grant_type", "client_credentials")
	var got struct {
		Token string `json:"access_token"`
	}
	p.post(client, "/token", fields, &got)
	return got.Token
}

func (p *provider) post(client, path string, fields url.Values, into any) {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.issuer+path, strings.NewReader(fields.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(client, "secret-of-the-"+client)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		p.t.Fatalf("%s: %d %s (%v)", path, res.StatusCode, text, err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(text, into); err != nil {
		p.t.Fatal(err)
	}
}

// TestOpenIDTokens takes tokens of the provider: signed ones, also after its keys have changed, and opaque ones until
// they are taken back.
func TestOpenIDTokens(t *testing.T) {
	p := newOpenID(t)
	passes := func(path, token string) error {
		r := p.node.ask(path, "Authorization", "Bearer "+token)
		if r.status != 200 || !strings.Contains(r.body, `"user":"api"`) {
			return fmt.Errorf("%d %s", r.status, r.body)
		}
		return nil
	}
	signed := func() string {
		return p.provider.tokenOf("api", url.Values{"scope": {"read"}, "resource": {"http://api.example"}})
	}
	first := signed()
	if err := passes("/signed/x", first); err != nil {
		t.Error(err)
	}
	if r := p.node.ask("/signed/x", "Authorization", "Bearer "+p.provider.tokenOf("api", url.Values{
		"scope": {"read"}, "resource": {"http://another.example"}})); r.status != 401 {
		t.Errorf("a token for somebody else: %d", r.status)
	}
	revoked := p.provider.tokenOf("api", url.Values{})
	if err := passes("/opaque/x", revoked); err != nil {
		t.Error(err)
	}
	p.provider.post("api", "/token/revocation", url.Values{"token": {revoked}}, nil)
	if r := p.node.ask("/opaque/x", "Authorization", "Bearer "+revoked); r.status != 401 {
		t.Errorf("a token that was taken back: %d", r.status)
	}
	opaque, unseen := p.provider.tokenOf("api", url.Values{}), signed()
	p.provider.kill()
	for name, token := range map[string]string{"seen before": first, "new to the node": unseen} {
		if err := passes("/signed/x", token); err != nil {
			t.Errorf("a token that is %s, while the provider is away: %v", name, err)
		}
	}
	if r := p.node.ask("/opaque/x", "Authorization", "Bearer "+opaque); r.status != 503 {
		t.Errorf("an opaque token, while the provider is away: %d %s", r.status, r.body)
	}
	p.node.kill()
	p.node.start()
	p.node.runs(1)
	if r := p.node.ask("/signed/x", "Authorization", "Bearer "+first); r.status != 503 {
		t.Errorf("a signed token, at a node that has never had the keys: %d %s", r.status, r.body)
	}
	p.provider.start() // with other keys
	p.provider.answers()
	second := signed()
	waittest.Until(t, "a token of the new keys passes", func() bool {
		r := p.node.ask("/signed/x", "Authorization", "Bearer "+second)
		if r.status != 200 && r.status != 503 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		return r.status == 200
	})
	if r := p.node.ask("/signed/x", "Authorization", "Bearer "+first); r.status != 401 {
		t.Errorf("a token of the keys before: %d %s", r.status, r.body)
	}
	p.provider.kill() // the node stays
	p.provider.start()
	p.provider.answers()
	third := signed()
	waittest.Until(t, "a token of keys that have changed under the node passes", func() bool {
		r := p.node.ask("/signed/x", "Authorization", "Bearer "+third)
		if r.status != 200 && r.status != 401 { // unknown keys are asked about every 10 seconds
			t.Fatalf("%d %s", r.status, r.body)
		}
		return r.status == 200
	})
}
