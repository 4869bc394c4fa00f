package authenticated

import (
	"slices"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

type optional struct{}

func (optional) GetOptional() bool         { return true }
func (optional) GetExcludePaths() []string { return nil }

// TestAnyOf has two optional steps before, of which neither finds its credentials.
func TestAnyOf(t *testing.T) {
	env := func(kind, name string) *pipeline.Environment {
		return &pipeline.Environment{Name: name, Metrics: new(telemetry.Sets).Of("gateway_"+kind+"_", "middleware", name)}
	}
	s, err := New(&middlewarev1.Authenticated{ExcludePaths: []string{"/open/*"}}, env("authenticated", "known"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		principal  *exchange.Principal
		passes     bool
	}{
		{"nobody", "/a", nil, false},
		{"somebody", "/a", &exchange.Principal{}, true},
		{"nobody where it is open", "/open/a", nil, true},
		{"nobody where a service may take it for open", "/a;/../open/a", nil, false},
	} {
		x := &exchange.Exchange{}
		x.Request.Path, x.Principal = c.path, c.principal
		for _, scheme := range []string{"ApiKey", "Basic"} {
			g, err := identity.New(optional{}, env("test", scheme), scheme, `realm="a"`)
			if err != nil {
				t.Fatal(err)
			}
			g.Absent(x, fault.Unauthenticated, "")
		}
		if got := s.Request(x) == exchange.Continue; got != c.passes {
			t.Errorf("%s: passes %t", c.name, got)
		}
		if c.passes {
			continue
		}
		got := slices.Collect(x.Response.Header.Values("WWW-Authenticate"))
		if x.Response.Status != 401 || x.Response.Code != fault.Unauthenticated ||
			!slices.Equal(got, []string{`ApiKey realm="a"`, `Basic realm="a"`}) {
			t.Errorf("%s: %d %s %q", c.name, x.Response.Status, x.Response.Code, got)
		}
	}
	if _, err := New(&middlewarev1.Cors{}, nil); err == nil {
		t.Error("took settings of another type")
	}
}
