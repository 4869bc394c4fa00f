package config

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// TestProblemsHaveTheUsersNames: problems name resources as whoever wrote the configuration does, and propose only
// what will be there.
func TestProblemsHaveTheUsersNames(t *testing.T) {
	base := mustPlan(t, Empty(), put(service("users")), put(service("orders")), put(headers("stamp", 1)),
		put(&configv1.Pipeline{Name: "front", MiddlewareIds: []string{"stamp"}}),
		put(&configv1.Route{Name: "r", Path: "/r", ServiceId: "orders"})).Config
	users := base.ByName(Service, "users").ID()
	settings, err := structpb.NewStruct(map[string]any{"reqeust": map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	backends := func(names ...string) *configv1.Route {
		r := &configv1.Route{Name: "b", Path: "/b"}
		for _, n := range names {
			r.Backends = append(r.Backends, &configv1.Backend{ServiceId: n})
		}
		return r
	}
	for name, c := range map[string]struct {
		edits []Edit
		want  string
		never string
	}{
		"a backend twice": {[]Edit{put(backends("users", "users"))},
			`backends[1].service_id "users" is there twice`, users},
		"a backend by name and id": {[]Edit{put(backends("users", users))}, `is there twice`, ""},
		"a middleware twice": {[]Edit{put(&configv1.Pipeline{Name: "p", MiddlewareIds: []string{"stamp", "stamp"}})},
			`middleware_ids[1] "stamp" is there twice`, "id-"},
		"a target too many": {[]Edit{put(&configv1.Route{Name: "q", Path: "/q", ServiceId: "users",
			DirectResponse: &configv1.DirectResponse{}})}, `service_id "users" exactly one`, "id-"},
		"a name that is near": {[]Edit{put(&configv1.Route{Name: "q", Path: "/q", ServiceId: "usres"})},
			`did you mean "users"?`, ""},
		"only one that is removed": {[]Edit{put(&configv1.Route{Name: "q", Path: "/q", ServiceId: "usres"}),
			{Kind: Service, Delete: "users"}}, "names no service", "did you mean"},
		"one that is removed": {[]Edit{put(&configv1.Route{Name: "q", Path: "/q", ServiceId: "users"}),
			{Kind: Service, Delete: "users"}}, "names a service that is removed by the same change", "did you mean"},
		"its id": {[]Edit{put(&configv1.Route{Name: "q", Path: "/q", ServiceId: users}),
			{Kind: Service, Delete: "users"}}, "names a service that is removed by the same change", "did you mean"},
		"the name before a new one": {[]Edit{put(&configv1.Route{Name: "q", Path: "/q", ServiceId: "users"}),
			put(&configv1.Service{Id: users, Name: "users2"})}, `names no service; did you mean "users2"?`, ""},
		"settings": {[]Edit{put(&configv1.Middleware{Name: "m", Type: "headers", Config: settings})},
			`config.reqeust is unknown in the settings of headers; did you mean "request"?`, ""},
		"a type": {[]Edit{put(&configv1.Middleware{Name: "m", Type: "header", Config: settings})},
			`type "header" is no middleware type; did you mean "headers"?`, ""},
		"a certificate": {[]Edit{put(&configv1.Certificate{Name: "c",
			CertPem: "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----"})}, "malformed certificate", "x509"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := base.Plan(c.edits, options())
			var problems Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), c.want) ||
				c.never != "" && strings.Contains(err.Error(), c.never) {
				t.Errorf("got %v, want %q, without %q", err, c.want, c.never)
			}
		})
	}
}
