package middleware

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/ratelimit"
	"gateway.internal/dataplane/internal/subrequest"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/middleware"
)

func TestEveryTypeHasItsFolder(t *testing.T) {
	readmes, _ := filepath.Glob("*/README.md")
	if len(readmes) != len(middleware.Names()) {
		t.Errorf("%d folders for %d types of the catalogue", len(readmes), len(middleware.Names()))
	}
	for _, path := range readmes {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range []string{"## Name", "## Description", "## Settings", "## Metrics", "## Examples"} {
			if !strings.Contains(string(text), section) {
				t.Errorf("%s lacks %q", path, section)
			}
		}
	}
	keep := live.NewStore(slog.New(slog.DiscardHandler), nil)
	env := &pipeline.Environment{Name: "a", Live: keep, Limits: ratelimit.NewNode(keep, new(telemetry.Sets)),
		Service: func(string) *subrequest.Client { return subrequest.NewClient(new(upstream.Service), nil) }}
	for _, name := range middleware.Names() {
		typ, _ := middleware.Lookup(name)
		m := typ.New()
		if o, is := m.(*middlewarev1.Oidc); is {
			o.SessionSecret = "0123456789abcdef0123456789abcdef"
		}
		if _, err := New(name, m, env); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New("nothing", nil, nil); err == nil {
		t.Error("made a step of an unknown type")
	}
}
