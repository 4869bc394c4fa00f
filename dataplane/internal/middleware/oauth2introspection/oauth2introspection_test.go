package oauth2introspection

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// authority is an authorisation server.
type authority struct {
	*httptest.Server
	asked  atomic.Int32
	answer atomic.Pointer[func(w http.ResponseWriter, token string)]
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		id, secret, _ := r.BasicAuth()
		if r.Method != "POST" || r.URL.Path != "/introspect" || id != "gate+way" || secret != "s%3Acret" {
			t.Errorf("%s %s as %q %q", r.Method, r.URL, id, secret)
			w.WriteHeader(401)
			return
		}
		(*a.answer.Load())(w, r.PostFormValue("token"))
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *authority) does(f func(w http.ResponseWriter, token string)) { a.answer.Store(&f) }

func (a *authority) says(format string, args ...any) {
	a.does(func(w http.ResponseWriter, _ string) { fmt.Fprintf(w, format, args...) })
}

func newStep(t testing.TB, a *authority, more string) (*step, *time.Time) {
	t.Helper()
	var m map[string]any
	text := `{"url":"` + a.URL + `/introspect","client_id":"gate way","client_secret":"s:cret"` + more + `}`
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	cfg, err := structpb.NewStruct(m)
	if err != nil {
		t.Fatal(err)
	}
	parsed, errs := middleware.Parse("oauth2_introspection", cfg)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	discard := slog.New(slog.DiscardHandler)
	store := live.NewStore(discard, telemetry.New(1).Panics(discard))
	t.Cleanup(store.Close)
	now := time.Now()
	s, err := New(parsed, &pipeline.Environment{
		Name: "tokens", Now: func() time.Time { return now }, Log: discard, Live: store,
		Metrics: new(telemetry.Sets).Of("gateway_oauth2_introspection_", "middleware", "tokens"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*step), &now
}

func do(s *step, fields ...string) (*exchange.Exchange, exchange.Verdict) {
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path = "GET", "/a"
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.Request.Header.Add(name, value)
	}
	return x, s.Request(x)
}

// TestActive tokens say who the client is, and are asked about once in a while.
func TestActive(t *testing.T) {
	a := newAuthority(t)
	s, now := newStep(t, a, `,"claims_to_headers":{"sub":"X-User"},"consumer_claim":"client_id","cache_ttl":"30s"`)
	a.says(`{"active":true,"sub":"u","client_id":"shop","scope":"a b","groups":["g"],"exp":%d}`, now.Unix()+20)
	for range 3 {
		x, v := do(s, "Authorization: Bearer t", "X-User: root")
		p := x.Principal
		if v != exchange.Continue || p == nil || p.Consumer != "shop" || !slices.Equal(p.Scopes, []string{"a", "b"}) ||
			!slices.Equal(p.Groups, []string{"g"}) || p.Claims["sub"] != "u" || x.Request.Header.Get("X-User") != "u" {
			t.Fatalf("%d %s %+v", v, x.Response.Message, p)
		}
	}
	if a.asked.Load() != 1 {
		t.Errorf("asked %d times", a.asked.Load())
	}
	*now = now.Add(21 * time.Second) // the token has expired before the answer is old
	if _, v := do(s, "Authorization: Bearer t"); v != exchange.Stop || a.asked.Load() != 2 {
		t.Errorf("an expired token: %d, asked %d times", v, a.asked.Load())
	}
}

// TestAnswers refuse by what they say, and by nothing else.
func TestAnswers(t *testing.T) {
	a := newAuthority(t)
	for i, c := range []struct {
		answer string
		status int // 0: the request goes on
	}{
		{`{"active":true}`, 0},
		{`{"active":true,"aud":["x","api"],"token_type":"bearer"}`, 0},
		{`{"active":false}`, 401},
		{`{"active":true,"exp":1}`, 401},
		{`{"active":true,"nbf":32503680000}`, 401},
		{`{"active":true,"token_type":"DPoP"}`, 401},
		{`{"active":true,"cnf":{"x5t#S256":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}`, 401},
		{`{"active":"true"}`, 503},
		{`{"active":false,"active":true}`, 503},
		{`{"active":true,"exp":"never"}`, 503},
		{`{}`, 503},
		{`[]`, 503},
		{`<html>`, 503},
		{`{"active":true,"a":"` + strings.Repeat("a", 70_000) + `"}`, 503},
	} {
		s, _ := newStep(t, a, "")
		a.does(func(w http.ResponseWriter, _ string) { _, _ = w.Write([]byte(c.answer)) })
		x, v := do(s, fmt.Sprintf("Authorization: Bearer secret%d", i))
		if (v == exchange.Continue) != (c.status == 0) || x.Response.Status != c.status {
			t.Errorf("%.60s: %d %d %s", c.answer, v, x.Response.Status, x.Response.Message)
		}
		if strings.Contains(string(x.Response.Body), "secret") {
			t.Errorf("the answer has the token: %s", x.Response.Body)
		}
	}
	s, _ := newStep(t, a, `,"audiences":["api"]`)
	asked := 0
	for answer, want := range map[string]exchange.Verdict{
		`{"active":true,"aud":"api"}`: exchange.Continue, `{"active":true,"aud":["b","api"]}`: exchange.Continue,
		`{"active":true,"aud":"web"}`: exchange.Stop, `{"active":true}`: exchange.Stop,
	} {
		a.says("%s", answer)
		asked++
		if _, v := do(s, "Authorization: Bearer "+fmt.Sprint(asked)); v != want {
			t.Errorf("%s: %d", answer, v)
		}
	}
}

// TestNobodyKnows answers with 503, or lets the request go on where the settings say so.
func TestNobodyKnows(t *testing.T) {
	a := newAuthority(t)
	a.does(func(w http.ResponseWriter, _ string) { w.WriteHeader(401) })
	s, _ := newStep(t, a, "")
	if x, v := do(s, "Authorization: Bearer t"); v != exchange.Stop || x.Response.Code != fault.UpstreamUnavailable ||
		x.Response.Status != 503 {
		t.Errorf("%d %d", v, x.Response.Status)
	}
	s, _ = newStep(t, a, `,"on_error":"allow","claims_to_headers":{"sub":"X-User"}`)
	x, v := do(s, "Authorization: Bearer t", "X-User: root")
	if v != exchange.Continue || x.Principal != nil || x.Request.Header.Get("X-User") != "" {
		t.Errorf("%d %+v", v, x.Principal)
	}
	if x, v := do(s); v != exchange.Stop || x.Response.Code != fault.Unauthenticated {
		t.Errorf("no token: %d", v)
	}
	s, _ = newStep(t, a, `,"timeout":"20ms"`)
	gone := make(chan struct{})
	a.does(func(http.ResponseWriter, string) { <-gone })
	if x, v := do(s, "Authorization: Bearer t"); v != exchange.Stop || x.Response.Status != 503 {
		t.Errorf("%d %d", v, x.Response.Status)
	}
	close(gone)
}

// TestOneQuestion is what many requests with the same token make, of a token that is not active as well.
func TestOneQuestion(t *testing.T) {
	a := newAuthority(t)
	s, now := newStep(t, a, "")
	begin := make(chan struct{})
	a.does(func(w http.ResponseWriter, _ string) { <-begin; fmt.Fprint(w, `{"active":false}`) })
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, v := do(s, "Authorization: Bearer t"); v != exchange.Stop {
				t.Error("passed")
			}
		})
	}
	close(begin)
	all.Wait()
	first := a.asked.Load()
	// Some may have come after the first answer.
	if do(s, "Authorization: Bearer t"); first > 2 || a.asked.Load() != first {
		t.Errorf("asked %d times, then %d", first, a.asked.Load())
	}
	*now = now.Add(maxInactive)
	if do(s, "Authorization: Bearer t"); a.asked.Load() != first+1 {
		t.Errorf("asked %d times after what was inactive is old", a.asked.Load())
	}
}

// TestComposed leaves what an earlier step has accepted alone, and waits nowhere in a loop.
func TestComposed(t *testing.T) {
	a := newAuthority(t)
	a.says(`{"active":true,"sub":"u"}`)
	s, _ := newStep(t, a, `,"optional":true`)
	x := &exchange.Exchange{}
	x.Request.Header.Add("Authorization", "Bearer t")
	before := &exchange.Principal{Consumer: "shop", Scheme: "Bearer"}
	x.Principal = before
	if v := s.Request(x); v != exchange.Continue || x.Principal != before || a.asked.Load() != 0 {
		t.Errorf("%d, asked %d times", v, a.asked.Load())
	}
	if x, v := do(s); v != exchange.Continue || x.Principal != nil {
		t.Errorf("anonymous: %d", v)
	}
	x = &exchange.Exchange{}
	x.InLoop = true
	x.Request.Header.Add("Authorization", "Bearer t")
	if v := s.Request(x); v != exchange.Later || a.asked.Load() != 0 {
		t.Errorf("in a loop: %d", v)
	}
	do(s, "Authorization: Bearer t")
	if v := s.Request(x); v != exchange.Continue || x.Principal == nil {
		t.Errorf("in a loop, with an answer: %d", v)
	}
	for _, fields := range [][]string{
		{"Authorization: Bearer t", "Authorization: Bearer t"}, {"Authorization: Bearer a b"},
		{"Authorization: Bearer " + strings.Repeat("a", 9000)},
	} {
		if x, v := do(s, fields...); v != exchange.Stop || x.Response.Status != 401 {
			t.Errorf("%.40s: %d", fields, v)
		}
	}
}

func TestKeptAnswersDoNotAllocate(t *testing.T) {
	a := newAuthority(t)
	a.says(`{"active":true,"sub":"u"}`)
	s, _ := newStep(t, a, `,"claims_to_headers":{"sub":"X-User"}`)
	x := &exchange.Exchange{}
	request := func() {
		x.Reset()
		x.Request.Header.Add("Authorization", "Bearer t")
		if s.Request(x) != exchange.Continue {
			t.Error(x.Response.Message)
		}
	}
	request()
	if n := testing.AllocsPerRun(1000, request); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
