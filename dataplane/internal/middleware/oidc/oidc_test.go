package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/middleware"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newStep(t *testing.T, p *openID, more string) *step {
	t.Helper()
	var m map[string]any
	text := `{"issuer":"` + p.URL + `","client_id":"shop","client_secret":"secret",
		"session_secret":"0123456789abcdef0123456789abcdef","claims_to_headers":{"email":"X-Email"}` + more + `}`
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	cfg, err := structpb.NewStruct(m)
	if err != nil {
		t.Fatal(err)
	}
	parsed, errs := middleware.Parse("oidc", cfg)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	discard := slog.New(slog.DiscardHandler)
	store := live.NewStore(discard, telemetry.New(1).Panics(discard))
	t.Cleanup(store.Close)
	s, err := New(parsed, &pipeline.Environment{
		Name: "users", Log: discard, Live: store, Metrics: new(telemetry.Sets).Of("gateway_oidc_", "middleware", "users"),
		Now: func() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*step)
}

// TestSignIn goes all the way: to the provider, back, to the page, and out.
func TestSignIn(t *testing.T) {
	p := newOpenID(t)
	b := newBrowser(newStep(t, p, `,"scopes":["email"]`))
	x, v := b.get("/page?a=1")
	to := x.Response.Header.Get("Location")
	if v != exchange.Stop || x.Response.Status != 302 || !strings.HasPrefix(to, p.URL+"/auth?") ||
		x.Response.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %d %s", v, x.Response.Status, to)
	}
	u, _ := url.Parse(to)
	if q := u.Query(); q.Get("scope") != "openid email" ||
		q.Get("redirect_uri") != "https://shop.example/oauth2/callback" {
		t.Errorf("%v", q)
	}
	x, _ = b.get(strings.TrimPrefix(p.signIn(to), "https://shop.example"))
	if x.Response.Status != 302 || x.Response.Header.Get("Location") != "/page?a=1" {
		t.Fatalf("%d %s %s", x.Response.Status, x.Response.Header.Get("Location"), x.Response.Message)
	}
	for set := range x.Response.Header.Values("Set-Cookie") {
		if !strings.HasPrefix(set, "__Host-session") || !strings.Contains(set, "; Path=/; HttpOnly; SameSite=Lax; ") ||
			!strings.HasSuffix(set, "; Secure") {
			t.Error(set)
		}
	}
	if len(b.cookies) != 1 ||
		strings.Contains(fmt.Sprint(b.cookies), "ey") && strings.Contains(fmt.Sprint(b.cookies), "u@") {
		t.Errorf("%v", b.cookies)
	}
	for range 2 {
		x, v = b.get("/page", "X-Email: root")
		if v != exchange.Continue || x.Principal == nil || x.Principal.Claims["sub"] != "u" ||
			x.Request.Header.Get("X-Email") != "u@example" {
			t.Fatalf("%d %s %+v", v, x.Response.Message, x.Principal)
		}
	}
	x, _ = b.get("/oauth2/logout")
	u, _ = url.Parse(x.Response.Header.Get("Location"))
	if q := u.Query(); u.Path != "/end" || q.Get("post_logout_redirect_uri") != "https://shop.example/" ||
		q.Get("id_token_hint") == "" || len(b.cookies) != 0 {
		t.Errorf("%s, %v", u, b.cookies)
	}
	if x, _ = b.get("/page"); x.Response.Status != 302 {
		t.Errorf("signed out: %d", x.Response.Status)
	}
}

// TestScripts are told that there is no session, rather than sent to another site.
func TestScripts(t *testing.T) {
	b := newBrowser(newStep(t, newOpenID(t), ""))
	for _, fields := range [][]string{
		{"Accept: application/json"}, {"Accept: text/html", "X-Requested-With: XMLHttpRequest"},
		{"Accept: text/html", "Sec-Fetch-Mode: cors"}, {"A: b"},
	} {
		if x, _ := b.get("/page", fields...); x.Response.Status != 401 || x.Response.Code != fault.Unauthenticated {
			t.Errorf("%v: %d", fields, x.Response.Status)
		}
	}
	optional := newBrowser(newStep(t, newOpenID(t), `,"optional":true,"exclude_paths":["/public"]`))
	for _, target := range []string{"/page", "/public"} {
		if x, v := optional.get(target, "X-Email: root"); v != exchange.Continue || x.Request.Header.Get("X-Email") != "" {
			t.Errorf("%s: %d", target, v)
		}
	}
}

// TestForgedAnswers to a sign-in make no session.
func TestForgedAnswers(t *testing.T) {
	p := newOpenID(t)
	s := newStep(t, p, "")
	begin := func() (*browser, url.Values) {
		b := newBrowser(s)
		x, _ := b.get("/page")
		u, _ := url.Parse(p.signIn(x.Response.Header.Get("Location")))
		return b, u.Query()
	}
	victim, _ := begin()
	_, attackers := begin()
	for _, c := range []struct {
		name string
		do   func(b *browser, q url.Values)
	}{
		{"another browser's sign-in", func(_ *browser, q url.Values) { q.Set("state", attackers.Get("state")) }},
		{"another browser's code", func(_ *browser, q url.Values) { q.Set("code", attackers.Get("code")) }},
		{"no cookie", func(b *browser, _ url.Values) { clear(b.cookies) }},
		{"a changed cookie", func(b *browser, _ url.Values) {
			for name, v := range b.cookies {
				b.cookies[name] = v[:len(v)-4] + "AAAA"
			}
		}},
		{"a session for a sign-in", func(b *browser, _ url.Values) {
			for name := range b.cookies {
				b.cookies[name] = s.sealer.seal(sessionPurpose, []byte(`{"s":"x"}`))
			}
		}},
		{"another provider", func(_ *browser, q url.Values) { q.Set("iss", "https://evil.example") }},
		{"no code", func(_ *browser, q url.Values) { q.Del("code"); q.Set("error", "access_denied") }},
		{"no state", func(_ *browser, q url.Values) { q.Del("state") }},
		{"two states", func(_ *browser, q url.Values) { q.Add("state", "x") }},
		{"two codes", func(_ *browser, q url.Values) { q.Add("code", "x") }},
	} {
		b, q := begin()
		c.do(b, q)
		if x, _ := b.get("/oauth2/callback?" + q.Encode()); x.Response.Status != 401 || b.cookies["__Host-session"] != "" {
			t.Errorf("%s: %d %v", c.name, x.Response.Status, b.cookies)
		}
	}
	for name, change := range map[string]func(map[string]any){
		"another nonce":    func(m map[string]any) { m["nonce"] = "x" },
		"no nonce":         func(m map[string]any) { delete(m, "nonce") },
		"another audience": func(m map[string]any) { m["aud"] = "other" },
		"another party":    func(m map[string]any) { m["aud"] = []string{"shop", "other"}; m["azp"] = "other" },
		"another issuer":   func(m map[string]any) { m["iss"] = "https://evil.example" },
		"an old token":     func(m map[string]any) { m["exp"] = 1 },
	} {
		p.changes.Store(&change)
		b, q := begin()
		if x, _ := b.get("/oauth2/callback?" + q.Encode()); x.Response.Status != 401 || b.cookies["__Host-session"] != "" {
			t.Errorf("%s: %d", name, x.Response.Status)
		}
	}
	none := func(map[string]any) {}
	p.changes.Store(&none)
	b, q := begin()
	kept := map[string]string{}
	for name, v := range b.cookies {
		kept[name] = v
	}
	if x, _ := b.get("/oauth2/callback?" + q.Encode()); x.Response.Status != 302 {
		t.Fatalf("the right one: %d %s", x.Response.Status, x.Response.Message)
	}
	b.cookies = kept
	if x, _ := b.get("/oauth2/callback?" + q.Encode()); x.Response.Status != 401 {
		t.Errorf("the same code again: %d", x.Response.Status)
	}
	p.mu.Lock()
	p.now = p.now.Add(loginLifetime)
	p.mu.Unlock()
	if _, q := begin(); q == nil {
		t.Fatal()
	}
	if x, _ := victim.get("/oauth2/callback?" + q.Encode()); x.Response.Status != 401 {
		t.Errorf("a sign-in of long ago: %d", x.Response.Status)
	}
}

// TestTampering: a cookie with any part changed, or of another middleware or secret, is no session.
func TestTampering(t *testing.T) {
	p := newOpenID(t)
	s := newStep(t, p, "")
	b := newBrowser(s)
	b.signIn(t, p, "/page")
	whole := b.cookies["__Host-session"]
	try := func(name, value string) {
		t.Helper()
		b.cookies["__Host-session"] = value
		if x, v := b.get("/page"); v == exchange.Continue || x.Principal != nil {
			t.Errorf("%s passes", name)
		}
		b.cookies = map[string]string{}
	}
	for i := 2; i < len(whole); i += 97 {
		c := byte('A')
		if whole[i] == c {
			c = 'B'
		}
		try(fmt.Sprint("byte ", i), whole[:i]+string(c)+whole[i+1:])
	}
	try("cut", whole[:len(whole)-8])
	try("empty", "")
	try("no number", whole[2:])
	try("many", "6."+whole[2:])
	try("a part that is missing", "2."+whole[2:])
	try("plain JSON", "1."+base64.RawURLEncoding.EncodeToString([]byte(`{"t":"a.b.c","e":99999999999}`)))
	other, err := newSealer("another", "0123456789abcdef0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	plain, ok := s.sealer.open(sessionPurpose, whole[2:])
	if !ok {
		t.Fatal("can't be read")
	}
	try("another middleware's", "1."+other.seal(sessionPurpose, plain))
	try("for a sign-in", "1."+s.sealer.seal(loginPurpose, plain))
	b.cookies["session"] = whole // over https the name has a prefix
	if _, v := b.get("/page"); v == exchange.Continue {
		t.Error("a cookie passes that other hosts of the domain can set")
	}
	b.cookies = map[string]string{"__Host-session": whole}
	if _, v := b.get("/page"); v != exchange.Continue {
		t.Error("the right one does not pass")
	}
}

// TestSecretsRotate: sessions of the secret before still count, and of no other.
func TestSecretsRotate(t *testing.T) {
	p := newOpenID(t)
	b := newBrowser(newStep(t, p, ""))
	b.signIn(t, p, "/page")
	const next = `,"session_secret":"another-secret-of-more-than-32-bytes"`
	b.step = newStep(t, p, next+`,"previous_session_secret":"0123456789abcdef0123456789abcdef"`)
	if _, v := b.get("/page"); v != exchange.Continue {
		t.Error("a session of the secret before")
	}
	b.step = newStep(t, p, next)
	if _, v := b.get("/page"); v == exchange.Continue {
		t.Error("a session of a secret that is gone")
	}
}

// TestFixation: each sign-in makes another session, whatever cookie there was.
func TestFixation(t *testing.T) {
	p := newOpenID(t)
	s := newStep(t, p, "")
	b := newBrowser(s)
	ids := map[string]bool{}
	for range 3 {
		b.cookies["__Host-session"] = "1.fixed"
		b.signIn(t, p, "/page")
		plain, _ := s.sealer.open(sessionPurpose, b.cookies["__Host-session"][2:])
		var one stored
		if err := json.Unmarshal(plain, &one); err != nil || one.ID == "" || ids[one.ID] {
			t.Errorf("%+v, %v", one, err)
		}
		ids[one.ID] = true
	}
}

// TestRefresh prolongs a session once for all requests, and ends it where the provider refuses.
func TestRefresh(t *testing.T) {
	p := newOpenID(t)
	s := newStep(t, p, "")
	b := newBrowser(s)
	b.signIn(t, p, "/page")
	before := b.cookies["__Host-session"]
	p.mu.Lock()
	p.now = p.now.Add(301 * time.Second)
	p.mu.Unlock()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			same := &browser{s, "https", map[string]string{"__Host-session": before}}
			if x, v := same.get("/page"); v != exchange.Continue || x.Request.Header.Get("X-Email") != "new@example" ||
				same.cookies["__Host-session"] == before {
				t.Errorf("%d %s", v, x.Response.Message)
			}
		})
	}
	all.Wait()
	if n := p.renewed.Load(); n != 1 {
		t.Errorf("refreshed %d times", n)
	}
	b.get("/page")
	p.refuses.Store(true)
	p.mu.Lock()
	p.now = p.now.Add(301 * time.Second)
	p.mu.Unlock()
	if x, _ := b.get("/page"); x.Response.Status != 302 {
		t.Errorf("refused: %d", x.Response.Status)
	}
	p.mu.Lock()
	p.now = p.now.Add(13 * time.Hour)
	p.mu.Unlock()
	if x, _ := b.get("/page"); x.Response.Status != 302 || p.renewed.Load() != 2 {
		t.Errorf("at the end of the session: %d, refreshed %d times", x.Response.Status, p.renewed.Load())
	}
}

// TestExpiresIn is a number, which some providers write as a text.
func TestExpiresIn(t *testing.T) {
	for _, written := range []any{300, "300"} {
		p := newOpenID(t)
		p.expiresIn = written
		b := newBrowser(newStep(t, p, ""))
		if x, _ := b.signIn(t, p, "/page"); x.Response.Status != 302 {
			t.Fatalf("%#v: the sign-in ends with %d %s", written, x.Response.Status, x.Response.Message)
		}
		for _, after := range []time.Duration{299 * time.Second, 2 * time.Second} {
			p.mu.Lock()
			p.now = p.now.Add(after)
			p.mu.Unlock()
			if x, v := b.get("/page"); v != exchange.Continue {
				t.Errorf("%#v: %d %s", written, x.Response.Status, x.Response.Message)
			}
		}
		if n := p.renewed.Load(); n != 1 {
			t.Errorf("%#v: refreshed %d times", written, n)
		}
	}
}

// TestSigningOutWhileRefreshing leaves the user signed out: what is refreshed sets no cookie any more.
func TestSigningOutWhileRefreshing(t *testing.T) {
	p := newOpenID(t)
	s := newStep(t, p, "")
	b := newBrowser(s)
	b.signIn(t, p, "/page")
	other := &browser{s, "https", maps.Clone(b.cookies)} // another window
	began, goOn := make(chan struct{}), make(chan struct{})
	renews := func() { close(began); <-goOn }
	p.renews.Store(&renews)
	p.mu.Lock()
	p.now = p.now.Add(301 * time.Second)
	p.mu.Unlock()
	answered := make(chan *exchange.Exchange)
	go func() {
		x, _ := b.get("/script", "Sec-Fetch-Mode: cors")
		answered <- x
	}()
	<-began
	if x, _ := other.get("/oauth2/logout"); x.Response.Status != 302 {
		t.Errorf("signing out: %d", x.Response.Status)
	}
	close(goOn)
	x := <-answered
	if x.Response.Status != 401 || x.Response.Header.Get("Set-Cookie") != "" {
		t.Errorf("the request that was refreshing: %d, and sets %q", x.Response.Status, x.Response.Header.Get("Set-Cookie"))
	}
	if x, _ := b.get("/script", "Sec-Fetch-Mode: cors"); x.Response.Status != 401 { // it was sent before the answer came
		t.Errorf("the session that has ended, within the same seconds: %d", x.Response.Status)
	}
	b.signIn(t, p, "/oauth2/none")
	if x, v := b.get("/page"); v != exchange.Continue {
		t.Errorf("after signing in anew: %d %s", x.Response.Status, x.Response.Message)
	}
}

// TestLargeSessions are in several cookies.
func TestLargeSessions(t *testing.T) {
	p := newOpenID(t)
	large := func(m map[string]any) { m["groups"] = strings.Split(strings.Repeat("group,", 1200), ",") }
	p.changes.Store(&large)
	b := newBrowser(newStep(t, p, ""))
	b.signIn(t, p, "/page")
	if len(b.cookies) < 3 {
		t.Errorf("%d cookies", len(b.cookies))
	}
	if x, v := b.get("/page"); v != exchange.Continue || len(x.Principal.Groups) != 1200 {
		t.Errorf("%d %s", v, x.Response.Message)
	}
	for name, v := range b.cookies {
		if len(name)+len(v) > 4000 {
			t.Errorf("%s has %d bytes", name, len(v))
		}
	}
}

func TestOwnPath(t *testing.T) {
	for path, want := range map[string]string{
		"/a?b=c": "/a?b=c", "//evil.example": "/", "https://evil.example": "/", "/\\evil.example": "/", "": "/",
		"/a\r\nb": "/",
	} {
		if got := ownPath(path); got != want {
			t.Errorf("%q: %q", path, got)
		}
	}
}

func TestSessionsDoNotAllocate(t *testing.T) {
	p := newOpenID(t)
	s := newStep(t, p, "")
	b := newBrowser(s)
	b.signIn(t, p, "/page")
	field := "__Host-session=" + b.cookies["__Host-session"]
	x := &exchange.Exchange{}
	s.now = func() time.Time { return p.now }
	if n := testing.AllocsPerRun(1000, func() {
		x.Reset()
		x.Scheme, x.Request.Path = "https", "/page"
		x.Request.Header.Add("Cookie", field)
		if s.Request(x) != exchange.Continue {
			t.Error(x.Response.Message)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestServicesGetNoSession: the gateway's cookies are taken out, however a browser sends them, and the others are left.
// A second step of the same middleware knows the user still.
func TestServicesGetNoSession(t *testing.T) {
	p := newOpenID(t)
	s := newStep(t, p, `,"optional":true,"exclude_paths":["/public"]`)
	plain, err := json.Marshal(stored{Token: "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1In0.AA", End: p.now.Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	session := "__Host-session=1." + s.sealer.seal(sessionPurpose, plain)
	for _, c := range []struct {
		path, want string
		cookies    []string
		known      bool
	}{
		{"/page", "", []string{session}, true},
		{"/page", "session=theirs; __Host-sessions=x; a=b",
			[]string{"session=theirs; " + session + "; __Host-sessions=x", "a=b"}, true},
		{"/page", "a=b; c=d", []string{"a=b", session, "__Host-session-4=x", "__Host-session-login-AAAAAAAA=x", "c=d"}, true},
		{"/page", "a=b", []string{"__Host-session=1.forged", "a=b"}, false},
		{"/public", "a=b", []string{"a=b; " + session}, false},
	} {
		x := &exchange.Exchange{}
		x.Scheme, x.Request.Method, x.Request.Path = "https", "POST", c.path
		for _, value := range c.cookies {
			x.Request.Header.Add("cookie", value)
		}
		for range 2 {
			if v := s.Request(x); v != exchange.Continue || (x.Principal != nil) != c.known {
				t.Errorf("%q: %v, as %+v", c.cookies, v, x.Principal)
			}
		}
		if got := x.Request.Header.Get("Cookie"); got != c.want {
			t.Errorf("%q: the service gets %q", c.cookies, got)
		}
	}
}

// TestManySignInsBegun by one browser leave room for its requests.
func TestManySignInsBegun(t *testing.T) {
	p := newOpenID(t)
	b := newBrowser(newStep(t, p, ""))
	for range 3 * maxLogins {
		b.get("/page")
	}
	if len(b.cookies) != maxLogins {
		t.Errorf("%d cookies", len(b.cookies))
	}
	if x, _ := b.signIn(t, p, "/page"); x.Response.Status != 302 || b.cookies["__Host-session"] == "" {
		t.Errorf("%d %s", x.Response.Status, x.Response.Message)
	}
}

// TestWhoBreaksOff while the provider's settings are fetched does not fail the others.
func TestWhoBreaksOff(t *testing.T) {
	p := newOpenID(t)
	s := newStep(t, p, "")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = s.provider.Value().metadata(gone)
	if m, err := s.provider.Value().metadata(t.Context()); err != nil || m.Token != p.URL+"/token" {
		t.Errorf("%+v, %v", m, err)
	}
}
