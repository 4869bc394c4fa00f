package admin

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"gateway.internal/controlplane/internal/access"
)

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// TestSecretsAreNotSaid: neither the log nor the audit trail has tokens, cookies, or secrets of what is changed.
func TestSecretsAreNotSaid(t *testing.T) {
	a := newAPI(t)
	said := &lines{}
	a.server.log = slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	const key = "canary-of-an-api-key-0123456789abcdef"
	consumer := `{"name":"shop","credentials":{"api_keys":[{"name":"k","key":"` + key + `"}]}}`
	text := a.tokenFor(`{"name":"deploy","role":"editor"}`)
	as := []string{"Authorization", "Bearer " + text}
	a.must("POST", "/api/v1/config/consumers", consumer, as...)
	a.must("PATCH", "/api/v1/config/consumers/shop", `{"groups":["a"]}`, as...)
	a.must("PUT", "/api/v1/config/consumers/shop", strings.Replace(consumer, "0123", "4567", 1), as...)
	cookie, csrf := a.open(text, "")
	if r, _ := a.browse("DELETE", "/api/v1/config/consumers/shop", "", cookie, csrfHeader, csrf); r.status != 200 {
		t.Fatalf("delete: %d %s", r.status, r.raw)
	}
	wrong, err := access.NewToken()
	if err != nil {
		t.Fatal(err)
	}
	a.call("GET", "/api/v1/nodes", "", "Authorization", "Bearer "+wrong)
	a.call("GET", "/api/v1/tokens/"+text, "")
	a.call("DELETE", "/api/v1/tokens/"+text, "")
	a.call("GET", "/api/v1/tokens", "", as...)
	a.server.audit.flush(t.Context(), true)
	r := a.must("GET", "/api/v1/audit?per_page=1000", "")
	if !strings.Contains(r.raw, `"consumer"`) || !strings.Contains(r.raw, "OpenSession") {
		t.Errorf("the trail has %s", r.raw)
	}
	said.mu.Lock()
	defer said.mu.Unlock()
	if !strings.Contains(said.text.String(), "admin call refused") {
		t.Errorf("the log has %s", said.text.String())
	}
	for what, secret := range map[string]string{
		"a token": text, "a wrong token": wrong, "the administrator's token": token, "a cookie": cookie,
		"what goes with the cookie": csrf, "a key": key, "another key": strings.Replace(key, "0123", "4567", 1),
	} {
		if strings.Contains(r.raw, secret) {
			t.Errorf("the audit trail has %s", what)
		}
		if strings.Contains(said.text.String(), secret) {
			t.Errorf("the log has %s", what)
		}
	}
}
