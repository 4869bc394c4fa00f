package jwt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws/jwsbb"
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

// key signs tokens with ES256, as an issuer does.
type key struct {
	id      string
	private *ecdsa.PrivateKey
}

func newKey(t testing.TB, id string) *key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key{id, k}
}

func (k *key) token(claims map[string]any) string {
	all := map[string]any{"iss": "https://issuer.example", "exp": time.Now().Add(time.Hour).Unix()}
	for name, v := range claims {
		if all[name] = v; v == nil {
			delete(all, name)
		}
	}
	payload, _ := json.Marshal(all)
	signed := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","kid":%q}`, k.id)) + "." +
		base64.RawURLEncoding.EncodeToString(payload)
	signature, err := jwsbb.Sign(k.private, "ES256", []byte(signed), nil)
	if err != nil {
		panic(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// set is what an issuer publishes of keys.
func set(keys ...*key) string {
	var all []string
	for _, k := range keys {
		public, err := jwk.Import(&k.private.PublicKey)
		if err != nil {
			panic(err)
		}
		_ = public.Set("kid", k.id)
		text, _ := json.Marshal(public)
		all = append(all, string(text))
	}
	return `{"keys":[` + strings.Join(all, ",") + `]}`
}

// env is what a node gives to steps, with a store of its own.
func newEnv(t testing.TB) *pipeline.Environment {
	t.Helper()
	store := live.NewStore(slog.New(slog.DiscardHandler), telemetry.New(1).Panics(slog.New(slog.DiscardHandler)))
	t.Cleanup(store.Close)
	return &pipeline.Environment{
		Name: "tokens", Now: time.Now, Log: slog.New(slog.DiscardHandler), Live: store,
		Metrics: new(telemetry.Sets).Of("gateway_jwt_", "middleware", "tokens"),
	}
}

// newStep makes a step of settings in JSON, as they are checked and stored.
func newStep(t testing.TB, env *pipeline.Environment, settings string) *step {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(settings), &m); err != nil {
		t.Fatal(err)
	}
	cfg, err := structpb.NewStruct(m)
	if err != nil {
		t.Fatal(err)
	}
	middleware.Normalise("jwt", cfg)
	parsed, errs := middleware.Parse("jwt", cfg)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	s, err := New(parsed, env)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*step)
}

// inline is settings with the keys themselves.
func inline(more string, keys ...*key) string {
	return `{"issuers":[{"issuer":"https://issuer.example","jwks":` + set(keys...) + `}]` + more + `}`
}

// do has a step decide about a request with these fields, "Name: value" each.
func do(s *step, fields ...string) (*exchange.Exchange, exchange.Verdict) {
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path = "GET", "/a"
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.Request.Header.Add(name, value)
	}
	return x, s.Request(x)
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// TestClaimsBecomeTheClient puts claims where later steps and services read them, and lets clients say none of that.
func TestClaimsBecomeTheClient(t *testing.T) {
	k := newKey(t, "k")
	s := newStep(t, newEnv(t), inline(`,"consumer_claim":"client_id","groups_claim":"realm.roles","claims_to_headers":{
		"sub":"X-User","n":"X-Number","list":"X-List","sly":"X-Sly","line":"X-Line","deep.er":"X-Deep","o":"X-Object",
		"absent":"X-Absent","yes":"X-Yes"}`, k))
	token := k.token(map[string]any{
		"sub": "maría", "client_id": "shop", "scope": "read write", "realm": map[string]any{"roles": []any{"a", "b"}},
		"n": json.Number("9007199254740993"), "list": []any{"x", "y"}, "sly": []any{"x,admin"}, "line": "a\r\nX-Admin: 1",
		"deep": map[string]any{"er": "d"}, "o": map[string]any{"ü": "😀"}, "yes": true,
	})
	for range 2 { // the second one is kept
		x, v := do(s, bearer(token), "X-User: root", "x_user: root", "X-Absent: root", "X-Sly: root", "X-Line: root")
		p := x.Principal
		if v != exchange.Continue || p == nil {
			t.Fatalf("refused: %d %s", x.Response.Status, x.Response.Message)
		}
		if p.Consumer != "shop" || !slices.Equal(p.Groups, []string{"a", "b"}) || p.Scheme != "Bearer" ||
			!slices.Equal(p.Scopes, []string{"read", "write"}) || p.Claims["sub"] != "maría" || p.Claims["yes"] != true {
			t.Errorf("%+v", p)
		}
		if _, is := p.Claims["n"].(float64); !is {
			t.Errorf("a number is a %T", p.Claims["n"])
		}
		got := map[string]string{}
		for name, value := range x.Request.Header.All() {
			got[name] += "|" + value
		}
		for name, want := range map[string]string{
			"X-User": "|maría", "X-Number": "|9007199254740993", "X-List": "|x,y", "X-Sly": "", "X-Line": "",
			"X-Deep": "|d", "X-Object": `|{"\u00fc":"\ud83d\ude00"}`, "X-Absent": "", "X-Yes": "|true", "x_user": "",
		} {
			if got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
	}
	if s.count.cached == nil || s.verified.Value().Len() != 1 {
		t.Errorf("%d tokens are kept", s.verified.Value().Len())
	}
}

// TestRefusals say why in general, and nothing of the token.
func TestRefusals(t *testing.T) {
	k, other := newKey(t, "k"), newKey(t, "k")
	s := newStep(t, newEnv(t), `{"issuers":[{"issuer":"https://issuer.example","audiences":["api"],"jwks":`+set(k)+`}]}`)
	api := map[string]any{"aud": "api"}
	good := k.token(api)
	thumbprint := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	bound := map[string]any{"aud": "api", "cnf": map[string]any{"x5t#S256": thumbprint}}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(good, ".")[1] + "."
	for _, c := range []struct {
		name   string
		fields []string
		code   fault.Code
		says   string
	}{
		{"right", []string{bearer(good)}, "", ""},
		{"in small letters", []string{"authorization: bearer " + good}, "", ""},
		{"nothing", nil, fault.Unauthenticated, "a token is required"},
		{"another scheme", []string{"Authorization: Basic " + good}, fault.Unauthenticated, "a token is required"},
		{"the token without a scheme", []string{"Authorization: " + good}, fault.Unauthenticated, "a token is required"},
		{"in another field", []string{"X-Authorization: Bearer " + good}, fault.Unauthenticated, "a token is required"},
		{"for a proxy", []string{"Proxy-Authorization: Bearer " + good}, fault.Unauthenticated, "a token is required"},
		{"in a cookie", []string{"Cookie: access_token=" + good}, fault.Unauthenticated, "a token is required"},
		{"no token", []string{"Authorization: Bearer "}, fault.InvalidToken, "no token"},
		{"two tokens", []string{"Authorization: Bearer " + good + ", Bearer " + good}, fault.InvalidToken, "no token"},
		{"two fields", []string{bearer(good), bearer(good)}, fault.InvalidToken, "several"},
		{"two fields, two schemes", []string{"authorization: Basic YTpi", bearer(good)}, fault.InvalidToken, "several"},
		{"another signature", []string{bearer(other.token(api))}, fault.InvalidToken, "does not verify"},
		{"another key", []string{bearer(newKey(t, "x").token(api))}, fault.InvalidToken, "unknown key"},
		{"no signature", []string{bearer(unsigned)}, fault.InvalidToken, "algorithm"},
		{"another audience", []string{bearer(k.token(map[string]any{"aud": "web"}))}, fault.InvalidToken, "audience"},
		{"another issuer", []string{bearer(k.token(map[string]any{"iss": "evil"}))}, fault.InvalidToken, "not trusted"},
		{"expired", []string{bearer(k.token(map[string]any{"aud": "api", "exp": 1}))}, fault.InvalidToken, "expired"},
		{"bound to a key", []string{bearer(k.token(bound))}, fault.InvalidToken, "bound"},
		{"opaque", []string{bearer("2YotnFZFEjr1zCsicMWpAA")}, fault.InvalidToken, "three parts"},
		{"too long", []string{bearer(good + strings.Repeat("A", 9000))}, fault.InvalidToken, "too long"},
	} {
		x, v := do(s, c.fields...)
		challenge := x.Response.Header.Get("WWW-Authenticate")
		if c.code == "" {
			if v != exchange.Continue {
				t.Errorf("%s: %s", c.name, x.Response.Message)
			}
			continue
		}
		if v != exchange.Stop || x.Response.Status != 401 || x.Response.Code != c.code ||
			!strings.Contains(x.Response.Message, c.says) || !strings.HasPrefix(challenge, "Bearer") {
			t.Errorf("%s: %d %s %q, challenge %q", c.name, x.Response.Status, x.Response.Code, x.Response.Message, challenge)
		}
		if said := strings.Contains(challenge, `error="invalid_token"`); said != (c.code == fault.InvalidToken) {
			t.Errorf("%s: challenge %q", c.name, challenge)
		}
		if text := string(x.Response.Body) + challenge; strings.Contains(text, "eyJ") || strings.Contains(text, "YotnFZ") {
			t.Errorf("%s: the answer has the token: %s", c.name, text)
		}
		if x.Principal != nil {
			t.Errorf("%s: principal %+v", c.name, x.Principal)
		}
	}
}

// TestOptional lets requests without a token of its kind go on, and no wrong one.
func TestOptional(t *testing.T) {
	k := newKey(t, "k")
	s := newStep(t, newEnv(t), inline(
		`,"optional":true,"exclude_paths":["/public/*"],"claims_to_headers":{"sub":"X-User"}`, k))
	for _, field := range []string{"A: b", "Authorization: Basic YTpi", bearer("opaque"), bearer("a.b.c")} {
		if x, v := do(s, field, "X-User: root"); v != exchange.Continue || x.Principal != nil ||
			x.Request.Header.Get("X-User") != "" {
			t.Errorf("%s: %d, %v", field, v, x.Request.Header.Fields())
		}
	}
	if _, v := do(s, bearer(newKey(t, "k").token(nil))); v != exchange.Stop {
		t.Error("a wrong token passes")
	}
	x := &exchange.Exchange{}
	x.Request.Path = "/public/a"
	x.Request.Header.Add("X-User", "root")
	x.Request.Header.Add("Authorization", "Bearer "+newKey(t, "k").token(nil))
	if v := s.Request(x); v != exchange.Continue || x.Request.Header.Get("X-User") != "" || x.Principal != nil {
		t.Errorf("an excluded path: %d", v)
	}
}

// TestRemoveToken keeps the token from services, where it is wanted.
func TestRemoveToken(t *testing.T) {
	k := newKey(t, "k")
	s := newStep(t, newEnv(t), inline(`,"remove_token":true`, k))
	if x, v := do(s, bearer(k.token(nil))); v != exchange.Continue || x.Request.Header.Get("Authorization") != "" {
		t.Errorf("%d, %v", v, x.Request.Header.Fields())
	}
}

// publisher is an issuer's server of keys.
type publisher struct {
	*httptest.Server
	body   atomic.Pointer[string]
	status atomic.Int32
	asked  atomic.Int32
	gate   chan struct{} // nil: it answers at once
}

func newPublisher(t testing.TB, body string) *publisher {
	t.Helper()
	p := &publisher{}
	p.body.Store(&body)
	p.status.Store(200)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		if p.gate != nil {
			<-p.gate
		}
		w.WriteHeader(int(p.status.Load()))
		_, _ = w.Write([]byte(*p.body.Load()))
	}))
	t.Cleanup(p.Close)
	return p
}

func byURL(url string) string {
	return `{"issuers":[{"issuer":"https://issuer.example","jwks_url":"` + url + `"}]}`
}

// TestPublishedKeys waits for the first fetch, learns a new key when it is used, and forgets what a key has verified
// that is gone.
func TestPublishedKeys(t *testing.T) {
	a, b := newKey(t, "a"), newKey(t, "b")
	p := newPublisher(t, set(a))
	env := newEnv(t)
	s := newStep(t, env, byURL(p.URL))
	tokenA, tokenB := a.token(nil), b.token(nil)
	if x, v := do(s, bearer(tokenA)); v != exchange.Continue {
		t.Fatalf("%d %s", x.Response.Status, x.Response.Message)
	}
	next := set(b)
	p.body.Store(&next)
	if x, v := do(s, bearer(tokenB)); v != exchange.Continue {
		t.Fatalf("a new key: %d %s", x.Response.Status, x.Response.Message)
	}
	if x, v := do(s, bearer(tokenA)); v != exchange.Stop || x.Response.Code != fault.InvalidToken {
		t.Errorf("a token of a key that is gone: %d", v)
	}
	asked := p.asked.Load()
	for i := range 200 {
		if _, v := do(s, bearer(newKeyOf(a, fmt.Sprint("unknown", i)).token(nil))); v != exchange.Stop {
			t.Fatal("an unknown key passes")
		}
	}
	if got := p.asked.Load(); got != asked {
		t.Errorf("unknown keys had the issuer asked %d times more", got-asked)
	}
	again := newStep(t, env, byURL(p.URL)) // as with the next snapshot
	if _, v := do(again, bearer(tokenB)); v != exchange.Continue || p.asked.Load() != asked {
		t.Errorf("a new snapshot: %d, asked %d times more", v, p.asked.Load()-asked)
	}
}

func newKeyOf(k *key, id string) *key { return &key{id, k.private} }

// TestNoKeysYet says that nobody knows, rather than that the token is wrong.
func TestNoKeysYet(t *testing.T) {
	k := newKey(t, "k")
	p := newPublisher(t, set(k))
	p.status.Store(500)
	s := newStep(t, newEnv(t), byURL(p.URL))
	if x, v := do(s, bearer(k.token(nil))); v != exchange.Stop || x.Response.Status != 503 ||
		x.Response.Code != fault.UpstreamUnavailable {
		t.Errorf("%d %d %s", v, x.Response.Status, x.Response.Message)
	}
	if x, v := do(s); v != exchange.Stop || x.Response.Status != 401 {
		t.Errorf("without a token: %d %d", v, x.Response.Status)
	}
}

// TestLoop leaves to others what takes long, and does the rest in the loop.
func TestLoop(t *testing.T) {
	k := newKey(t, "k")
	p := newPublisher(t, set(k))
	p.gate = make(chan struct{})
	s := newStep(t, newEnv(t), byURL(p.URL))
	token := k.token(nil)
	inLoop := func(field string) exchange.Verdict {
		x := &exchange.Exchange{}
		x.InLoop = true
		x.Request.Header.Add("Authorization", "Bearer "+field)
		return s.Request(x)
	}
	if v := inLoop(token); v != exchange.Later {
		t.Errorf("without keys: %d", v)
	}
	if v := inLoop(k.token(map[string]any{"exp": 1})); v != exchange.Stop {
		t.Errorf("an expired token: %d", v)
	}
	close(p.gate)
	if _, err := s.issuers["https://issuer.example"].keys.Value().Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if v := inLoop(token); v != exchange.Later {
		t.Errorf("a signature to verify: %d", v)
	}
	if _, v := do(s, bearer(token)); v != exchange.Continue {
		t.Errorf("elsewhere: %d", v)
	}
	if v := inLoop(token); v != exchange.Continue {
		t.Errorf("a kept token: %d", v)
	}
	if v := inLoop(newKeyOf(k, "unknown").token(nil)); v != exchange.Later {
		t.Errorf("an unknown key that the issuer is asked for: %d", v)
	}
	do(s, bearer(newKeyOf(k, "unknown").token(nil)))
	if v := inLoop(newKeyOf(k, "unknown").token(nil)); v != exchange.Stop {
		t.Errorf("an unknown key after that: %d", v)
	}
}

// TestKeptTokensExpire keeps no token for longer than it counts.
func TestKeptTokensExpire(t *testing.T) {
	k := newKey(t, "k")
	env := newEnv(t)
	now := time.Now()
	env.Now = func() time.Time { return now }
	s := newStep(t, env, inline("", k))
	token := k.token(map[string]any{"exp": now.Add(time.Minute).Unix()})
	if _, v := do(s, bearer(token)); v != exchange.Continue {
		t.Fatal("refused")
	}
	now = now.Add(time.Minute + 4*time.Second) // within the skew
	if _, v := do(s, bearer(token)); v != exchange.Continue {
		t.Error("refused within the skew")
	}
	now = now.Add(2 * time.Second)
	if x, v := do(s, bearer(token)); v != exchange.Stop || !strings.Contains(x.Response.Message, "expired") {
		t.Errorf("%d %s", v, x.Response.Message)
	}
}

func TestKeptTokensDoNotAllocate(t *testing.T) {
	k := newKey(t, "k")
	s := newStep(t, newEnv(t), inline(`,"claims_to_headers":{"sub":"X-User"}`, k))
	x := &exchange.Exchange{}
	field := "Bearer " + k.token(map[string]any{"sub": "u"})
	request := func() {
		x.Reset()
		x.Request.Path = "/a"
		x.Request.Header.Add("Authorization", field)
		x.Request.Header.Add("X-User", "root")
		if s.Request(x) != exchange.Continue {
			t.Error(x.Response.Message)
		}
	}
	request()
	if n := testing.AllocsPerRun(1000, request); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkKept is what a token that is known costs a request: the step alone.
func BenchmarkKept(b *testing.B) {
	k := newKey(b, "k")
	s := newStep(b, newEnv(b), inline(`,"claims_to_headers":{"sub":"X-User"}`, k))
	claims := map[string]any{"sub": "u", "aud": "api", "scope": "read write", "more": strings.Repeat("a", 300)}
	field := "Bearer " + k.token(claims)
	x := &exchange.Exchange{}
	b.ReportAllocs()
	for b.Loop() {
		x.Reset()
		x.Request.Path = "/a"
		x.Request.Header.Add("User-Agent", "wrk")
		x.Request.Header.Add("Accept", "*/*")
		x.Request.Header.Add("Authorization", field)
		if s.Request(x) != exchange.Continue {
			b.Fatal(x.Response.Message)
		}
	}
}
