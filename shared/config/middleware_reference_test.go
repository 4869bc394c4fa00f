package config

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func extAuth(name, service string) *configv1.Middleware {
	settings, err := structpb.NewStruct(map[string]any{"service_id": service})
	if err != nil {
		panic(err)
	}
	return &configv1.Middleware{Name: name, Type: "ext_auth", Config: settings}
}

// TestServicesThatAreCalled refuses middleware that calls a service by gRPC over a protocol that does not carry it,
// whichever of the two changes.
func TestServicesThatAreCalled(t *testing.T) {
	calling := extAuth("auth", "s")
	calling.Config.Fields["protocol"] = structpb.NewStringValue("grpc")
	speaking := func(protocol string) *configv1.Service {
		s := service("s")
		s.Protocol = protocol
		return s
	}
	const want = `config.service_id "s" is called by gRPC, which its protocol "http" does not carry`
	for _, protocol := range []string{"grpc", "grpcs", "h2c"} {
		good := mustPlan(t, Empty(), put(speaking(protocol)), put(calling)).Config
		if _, err := good.Plan([]Edit{put(speaking("http"))}, options()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the service changed from %s: %v", protocol, err)
		}
	}
	_, err := Empty().Plan([]Edit{put(speaking("http")), put(calling)}, options())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("both new: %v", err)
	}
	base := mustPlan(t, Empty(), put(speaking("http")), put(extAuth("auth", "s"))).Config
	if _, err := base.Plan([]Edit{put(calling)}, options()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the middleware changed: %v", err)
	}
}

// TestReferencesOfSettings resolves what settings of middleware name as any reference, also where a service and the
// middleware of its own pipeline name each other.
func TestReferencesOfSettings(t *testing.T) {
	guarded := service("guarded")
	guarded.PipelineId = "p"
	base := mustPlan(t, Empty(), put(extAuth("auth", "guarded")),
		put(&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"auth"}}), put(guarded), put(service("other"))).Config
	id := func(c *Config, name string) string { return c.ByName(Service, name).ID() }
	stands := func(c *Config) string {
		return c.ByName(Middleware, "auth").Message.(*configv1.Middleware).GetConfig().GetFields()["service_id"].GetStringValue()
	}
	if got := stands(base); got != id(base, "guarded") {
		t.Errorf("the reference is %q, not the service's id", got)
	}
	given := base.AsGiven(base.ByName(Middleware, "auth").Message).(*configv1.Middleware)
	if got := given.GetConfig().GetFields()["service_id"].GetStringValue(); got != "guarded" {
		t.Errorf("it is shown as %q", got)
	}
	if got := stands(base); got != id(base, "guarded") {
		t.Errorf("showing it has changed it to %q", got)
	}
	for what, c := range map[string]struct {
		edit Edit
		want string
	}{
		"unknown": {put(extAuth("auth", "gaurded")), `config.service_id "gaurded" names no service; did you mean "guarded"?`},
		"missing": {put(extAuth("auth", "")), "config.service_id is required"},
		"in use":  {Edit{Kind: Service, Delete: "guarded"}, `service "guarded" is used by middleware "auth"`},
	} {
		if _, err := base.Plan([]Edit{c.edit}, options()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", what, err, c.want)
		}
	}
	next := mustPlan(t, base, put(extAuth("auth", "other"))).Config
	if got := stands(next); got != id(next, "other") {
		t.Errorf("the changed reference is %q", got)
	}
	if _, err := next.Plan([]Edit{{Kind: Service, Delete: "other"}}, options()); err == nil {
		t.Error("the service that is named now can be removed")
	}
	both := []Edit{{Kind: Middleware, Delete: "auth"}, {Kind: Pipeline, Delete: "p"}, {Kind: Service, Delete: "other"}, put(service("guarded"))}
	if _, err := next.Plan(both, options()); err != nil {
		t.Errorf("removed together: %v", err)
	}
}
