package extauth

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/subrequest"
	"gateway.internal/dataplane/internal/upstream"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// TestKeptAnswers keeps answers for as long as the settings say now, whichever of two changes of them made the step.
func TestKeptAnswers(t *testing.T) {
	store, services := live.NewStore(nil, nil), upstream.NewRegistry(slog.New(slog.DiscardHandler))
	defer services.Close()
	services.Apply(map[string]upstream.Definition{"s": {Service: &configv1.Service{Name: "s", Protocol: "http"}}}, nil)
	now := time.Unix(0, 0)
	step := func(middleware string, m *middlewarev1.ExtAuth) *keeping {
		t.Helper()
		m.ServiceId = "s"
		k, err := newKeeping(m, []string{"Cookie"}, &pipeline.Environment{
			Name: middleware, Live: store, Now: func() time.Time { return now },
			Service: func(string) *subrequest.Client { return subrequest.NewClient(services.Get("s"), nil) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	ttl := func(d string) *middlewarev1.ExtAuthCache { return &middlewarev1.ExtAuthCache{Ttl: d} }
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path = "GET", "/"
	first := step("a", &middlewarev1.ExtAuth{Cache: ttl("10s")})
	key := first.key(x)
	first.put(key, &answer{passes: true})
	for _, c := range []struct {
		name       string
		middleware string
		settings   *middlewarev1.ExtAuth
		kept       bool
	}{
		{"the same", "a", &middlewarev1.ExtAuth{Cache: ttl("10s")}, true},
		{"another time limit", "a", &middlewarev1.ExtAuth{Cache: ttl("10s"), Timeout: "3s"}, true},
		{"another way with errors", "a", &middlewarev1.ExtAuth{Cache: ttl("10s"), OnError: "allow"}, true},
		{"a longer time", "a", &middlewarev1.ExtAuth{Cache: ttl("20s")}, true},
		{"a shorter time", "a", &middlewarev1.ExtAuth{Cache: ttl("5s")}, false},
		{"another path", "a", &middlewarev1.ExtAuth{Cache: ttl("10s"), Path: "/other"}, false},
		{"other fields", "a", &middlewarev1.ExtAuth{Cache: ttl("10s"), RequestHeaders: []string{"X"}}, false},
		{"another key", "a", &middlewarev1.ExtAuth{
			Cache: &middlewarev1.ExtAuthCache{Ttl: "10s", Key: []string{":path"}},
		}, false},
		{"another principal", "a", &middlewarev1.ExtAuth{
			Cache: ttl("10s"), Principal: &middlewarev1.ExtAuthPrincipal{Consumer: "X"},
		}, false},
		{"another middleware", "b", &middlewarev1.ExtAuth{Cache: ttl("10s")}, false},
	} {
		now = time.Unix(5, 0)
		if got := step(c.middleware, c.settings).get(key) != nil; got != c.kept {
			t.Errorf("%s: kept: %t", c.name, got)
		}
	}
	if now = time.Unix(10, 0); first.get(key) != nil {
		t.Error("an answer counts for longer than its time")
	}
}

// TestKeptAnswersHaveRoom has the answers that were not used for longest make room, by number and by bytes.
func TestKeptAnswersHaveRoom(t *testing.T) {
	all, err := newAnswers()
	if err != nil {
		t.Fatal(err)
	}
	key := func(n int) answerKey { return answerKey{byte(n), byte(n >> 8)} }
	put := func(n, bytes int) { all.put(key(n), kept{answer: &answer{bytes: bytes}}) }
	has := func(want ...int) {
		t.Helper()
		for n := range 6 {
			if _, found := all.by.Peek(key(n)); found != slices.Contains(want, n) {
				t.Errorf("answer %d: kept: %t", n, found)
			}
		}
	}
	for n := range 4 {
		put(n, maxAnswersBytes/4)
	}
	has(0, 1, 2, 3)
	all.get(key(0))
	put(4, 1)
	has(0, 2, 3, 4)
	put(3, maxAnswersBytes/2) // it takes its own place
	has(0, 3, 4)
	put(5, maxAnswersBytes/4-1)
	has(0, 3, 4, 5)
	for n := range maxAnswers {
		put(6+n, 1)
	}
	has()
	if n := all.by.Len(); n != maxAnswers || all.bytes != maxAnswers {
		t.Errorf("%d answers of %d bytes are kept", n, all.bytes)
	}
	if err := all.Close(); err != nil || all.bytes != 0 {
		t.Errorf("%d bytes are left, %v", all.bytes, err)
	}
}
