package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// ignored returns the fields that warnings say were ignored.
func (r *reply) ignored() (fields []string) {
	for _, w := range r.Meta.Warnings {
		if strings.HasPrefix(fmt.Sprint(w["message"]), "is ignored") {
			fields = append(fields, fmt.Sprint(w["field"]))
		}
	}
	slices.Sort(fields)
	return fields
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAsShown sends resources as replies and documents show them, with what the server gives in them.
func TestAsShown(t *testing.T) {
	a := newAPI(t)
	const service = `{
		"id": "660e8400-e29b-41d4-a716-446655440001", "name": "user-service", "protocol": "http",
			"load_balancer_type": "round_robin",
		"health_check_config": {"path": "/health", "interval": "10s", "timeout": "5s", "unhealthy_threshold": 3,
			"healthy_threshold": 2},
		"endpoints": [
			{"id": "770e8400-e29b-41d4-a716-446655440002", "host": "user-service-1", "port": 8080, "weight": 1,
				"healthy": true},
			{"id": "770e8400-e29b-41d4-a716-446655440003", "host": "user-service-2", "port": 8080, "weight": 1,
				"healthy": true}
		]}`
	const route = `{
		"id": "550e8400-e29b-41d4-a716-446655440000", "name": "user-service-api", "path": "/api/v1/users/*",
			"method": "GET",
		"service_id": "user-service", "pipeline_id": "auth-pipeline", "policy_id": "rate-limit-policy",
			"enabled": true, "priority": 100,
		"created_at": "2023-12-05T10:30:00Z", "updated_at": "2023-12-05T10:30:00Z"}`
	a.must("POST", "/api/v1/config/middleware", `{"name": "auth", "type": "headers", "order": 1,
		"config": {"request": {"remove": ["x"]}}}`)
	a.must("POST", "/api/v1/config/pipelines", `{"name": "auth-pipeline", "middleware_ids": ["auth"]}`)
	a.must("POST", "/api/v1/config/policies", `{"name": "rate-limit-policy"}`)
	for _, c := range []struct {
		name, path, body string
		ignored          []string
	}{
		{"user-service", "/api/v1/config/services", service, []string{"endpoints[0].healthy",
			"endpoints[1].healthy", "id"}},
		{"user-service-api", "/api/v1/config/routes", route, []string{"created_at", "id", "updated_at"}},
	} {
		created := a.must("POST", c.path, c.body)
		if got := created.ignored(); created.status != 201 || !slices.Equal(got, c.ignored) {
			t.Errorf("%s: %d, ignored are %v, want %v: %s", c.name, created.status, got, c.ignored, created.raw)
		}
		shown := a.must("GET", c.path+"/"+c.name, "").Data.(map[string]any)
		for name, want := range object(t, c.body) {
			if name == "endpoints" {
				for i, e := range want.([]any) {
					for name, want := range e.(map[string]any) {
						if got := shown["endpoints"].([]any)[i].(map[string]any)[name]; name != "healthy" &&
							got != want {
							t.Errorf("%s: endpoints[%d].%s is shown as %v, was given as %v", c.name, i, name, got, want)
						}
					}
				}
				continue
			}
			if name == "health_check_config" {
				for name, want := range want.(map[string]any) {
					if got := shown["health_check_config"].(map[string]any)[name]; got != want {
						t.Errorf("%s: health_check_config.%s is shown as %v, was given as %v", c.name, name, got, want)
					}
				}
				continue
			}
			if got := shown[name]; got != want && !slices.Contains(c.ignored, name) {
				t.Errorf("%s: %s is shown as %v, was given as %v", c.name, name, got, want)
			}
		}
		text, err := json.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"PUT", "PATCH"} {
			again := a.must(method, c.path+"/"+c.name, string(text))
			if again.field("version") != 1.0 || again.Meta.Revision != created.Meta.Revision || len(again.ignored()) > 0 {
				t.Errorf("%s %s as it is shown: %s", method, c.name, again.raw)
			}
		}
		put := a.must("PUT", c.path+"/"+c.name, c.body)
		if got := put.ignored(); put.Meta.Revision != created.Meta.Revision || !slices.Equal(got, c.ignored) {
			t.Errorf("PUT %s as it was given: ignored are %v, want %v: %s", c.name, got, c.ignored, put.raw)
		}
	}
}

// TestIgnoredEverywhere has what the server gives in the bodies of all calls that take resources.
func TestIgnoredEverywhere(t *testing.T) {
	const at, id = "2023-12-05T10:30:00Z", "550e8400-e29b-41d4-a716-446655440000"
	for _, c := range []struct {
		name, method, path, body string
		want                     []string
	}{
		{"a creation", "POST", "services", `{"name": "new", "id": "` + id + `", "created_at": "` + at + `",
			"version": 7, "healthy": true}`, []string{"created_at", "healthy", "id", "version"}},
		{"a creation by PUT", "PUT", "services/new", `{"id": "` + id + `", "discovered_at": "` + at + `"}`,
			[]string{"discovered_at", "id"}},
		{"a replacement", "PUT", "services/s", `{"id": "` + id + `", "last_health_check": "` + at + `"}`,
			[]string{"id", "last_health_check"}},
		{"a patch", "PATCH", "services/s", `{"id": "` + id + `", "updated_at": "` + at + `"}`, []string{"id",
			"updated_at"}},
		{"an endpoint", "POST", "services/s/endpoints", `{"host": "127.0.0.1", "port": 9001, "healthy": false}`,
			[]string{"endpoints[1].healthy"}},
		{"an apply", "POST", "apply", `{"services": [{"name": "s", "created_at": "` + at + `",
			"endpoints": [{"host": "h", "port": 1, "healthy": true}]}]}`, []string{"created_at",
			"endpoints[0].healthy"}},
		{"a diff", "POST", "diff", `{"services": [{"name": "s", "created_at": "` + at + `"}]}`, []string{"created_at"}},
		{"a validation", "POST", "validate", `{"services": [{"name": "s", "healthy": true}]}`, []string{"healthy"}},
		{"a certificate's end", "POST", "certificates", `{"name": "c", "hosts": ["a.test"], "acme": {},
			"not_after": "` + at + `", "obtained": {"at": "` + at + `"}}`, []string{"not_after", "obtained"}},
		{"nothing of the kind", "PUT", "services/s", `{"endpoints": [{"host": "h", "port": 1}]}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAPI(t)
			a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1",
				"port": 9000}]}`)
			if r := a.must(c.method, "/api/v1/config/"+c.path, c.body); !slices.Equal(r.ignored(), c.want) {
				t.Errorf("ignored are %v, want %v: %s", r.ignored(), c.want, r.raw)
			}
		})
	}
}

// TestReferencesAsGiven: a reference that was given as a name is shown as one, today's, and an id as an id.
func TestReferencesAsGiven(t *testing.T) {
	a := newAPI(t)
	id, _ := a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1",
		"port": 9000}]}`).field("id").(string)
	other, _ := a.must("POST", "/api/v1/config/services", `{"name": "u"}`).field("id").(string)
	a.must("POST", "/api/v1/config/middleware", `{"name": "m", "type": "headers", "order": 1,
		"config": {"request": {"remove": ["x"]}}}`)
	a.must("POST", "/api/v1/config/pipelines", `{"name": "p", "middleware_ids": ["m"]}`)
	a.must("POST", "/api/v1/config/routes", `{"name": "by-name", "path": "/a", "service_id": "s", "pipeline_id": "p"}`)
	a.must("POST", "/api/v1/config/routes", `{"name": "by-id", "path": "/b", "service_id": "`+id+`"}`)
	a.must("POST", "/api/v1/config/routes", `{"name": "both", "path": "/c",
		"backends": [{"service_id": "`+other+`"}, {"service_id": "s", "weight": 2}]}`)
	hold := func(when, service string) {
		t.Helper()
		for name, want := range map[string]string{"by-name": service, "by-id": id} {
			if got := a.must("GET", "/api/v1/config/routes/"+name, "").field("service_id"); got != want {
				t.Errorf("%s: %s leads to %v, want %s", when, name, got, want)
			}
		}
		backends := a.must("GET", "/api/v1/config/routes/both", "").field("backends").([]any)
		if x, y := backends[0].(map[string]any)["service_id"], backends[1].(map[string]any)["service_id"]; x != other || y != service {
			t.Errorf("%s: the backends are %v and %v", when, x, y)
		}
	}
	hold("at first", "s")
	if got := a.must("GET", "/api/v1/config/pipelines/p", "").field("middleware_ids"); fmt.Sprint(got) != "[m]" {
		t.Errorf("the pipeline has %v", got)
	}
	for _, name := range []string{"by-name", "by-id", "both"} {
		a.must("PATCH", "/api/v1/config/routes/"+name, `{"priority": 3}`)
		a.must("POST", "/api/v1/config/routes/"+name+"/disable", "")
	}
	hold("after changes of other fields", "s")
	renamed := a.must("PATCH", "/api/v1/config/services/s", `{"name": "t"}`)
	hold("after a change of the name", "t")
	exported, err := json.Marshal(a.must("GET", "/api/v1/config/export", "").Data)
	if err != nil {
		t.Fatal(err)
	}
	if r := a.must("POST", "/api/v1/config/apply?prune=true",
		string(exported)); r.field("committed") != false || len(r.field("changes").([]any)) > 0 {
		t.Errorf("what was exported is another thing: %s", r.raw)
	}
	for _, service := range []string{"t", id, "t"} { // one form for the other, and no more
		r := a.must("PUT", "/api/v1/config/routes/by-id", `{"path": "/b", "service_id": "`+service+`", "priority": 3,
			"enabled": false}`)
		if got := a.must("GET", "/api/v1/config/routes/by-id", ""); r.field("service_id") != service ||
			got.field("service_id") != service {
			t.Errorf("given as %s, the service is shown as %v, %s", service, r.field("service_id"), got.raw)
		}
		changes := fmt.Sprint(a.must("GET", fmt.Sprint("/api/v1/config/revisions/", r.Meta.Revision), "").field("changes"))
		if !strings.Contains(changes, "after:"+service) || strings.Count(changes, "path:") != 1 {
			t.Errorf("the revision that gives %s has %s", service, changes)
		}
		if again := a.must("PATCH", "/api/v1/config/routes/by-id", `{"service_id": "`+service+`"}`); again.Meta.Revision !=
			r.Meta.Revision {
			t.Errorf("given as %s again, it is another thing: %s", service, again.raw)
		}
	}
	a.must("DELETE", "/api/v1/config/routes/by-name", "")
	a.must("DELETE", "/api/v1/config/routes/both", "")
	a.must("POST", fmt.Sprintf("/api/v1/config/revisions/%d/rollback", renamed.Meta.Revision), "")
	hold("after a rollback", "t")
	if strings.Contains(a.must("GET", "/api/v1/config/routes/both", "").raw,
		"named_references") || strings.Contains(string(exported), "named_references") {
		t.Error("how references were given is shown by itself")
	}
}

// TestEndpointIDs: endpoints have ids, given or made, which stay theirs.
func TestEndpointIDs(t *testing.T) {
	a := newAPI(t)
	const path = "/api/v1/config/services/s"
	a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 1},
		{"host": "127.0.0.1", "port": 2, "id": "mine"}, {"host": "unix:/run/a.sock", "id": "other"}]}`)
	ids := func() (list []string) {
		t.Helper()
		for _, e := range a.must("GET", path+"/endpoints", "").Data.([]any) {
			list = append(list, e.(map[string]any)["id"].(string))
		}
		return list
	}
	first := ids()
	if len(first[0]) != 36 || first[1] != "mine" || first[2] != "other" {
		t.Fatalf("the ids are %v", first)
	}
	revision := a.must("GET", path, "").Meta.Revision
	a.must("PUT", path, `{"endpoints": [{"host": "127.0.0.1", "port": 1}, {"host": "127.0.0.1", "port": 2},
		{"host": "unix:/run/a.sock"}]}`)
	if got := ids(); !slices.Equal(got, first) || a.must("GET", path, "").Meta.Revision != revision {
		t.Errorf("put without ids they have %v, had %v", got, first)
	}
	a.must("PUT", path, `{"endpoints": [{"host": "127.0.0.1", "port": 1}, {"host": "127.0.0.1", "port": 2},
		{"host": "127.0.0.1", "port": 3, "id": "mine"}]}`)
	if got := ids(); got[0] != first[0] || len(got[1]) != 36 || got[2] != "mine" {
		t.Errorf("with an id that was given to another one they have %v, had %v", got, first)
	}
	a.must("PUT", path, `{"endpoints": [{"host": "127.0.0.1", "port": 1}, {"host": "127.0.0.1", "port": 2, "id": "mine"},
		{"host": "unix:/run/a.sock", "id": "other"}]}`)
	a.must("POST", path+"/endpoints", `{"host": "127.0.0.1", "port": 1, "weight": 3}`)
	a.must("POST", path+"/endpoints", `{"host": "127.0.0.1", "port": 2, "id": "new"}`)
	if got := ids(); !slices.Equal(got, []string{first[0], "new", "other"}) {
		t.Errorf("after changes they have %v", got)
	}
	for _, c := range []struct{ name, id, field string }{
		{"one that another endpoint has", "other", "endpoints[3].id"},
		{"no id", "a/b", "endpoints[3].id"},
	} {
		if r := a.call("POST", path+"/endpoints", `{"host": "127.0.0.1", "port": 4,
			"id": "`+c.id+`"}`); r.status != 422 || r.Error.Field != c.field {
			t.Errorf("%s: %d %s", c.name, r.status, r.raw)
		}
	}
	for _, c := range []struct {
		name, below string
		status      int
	}{
		{"none", "/nothing", 404},
		{"an address of none", "/127.0.0.1/7", 404},
		{"an id that was given", "/other", 200},
		{"again", "/other", 404},
		{"a made id", "/" + first[0], 200},
		{"an address as one", "/127.0.0.1:2", 200},
	} {
		if r := a.call("DELETE", path+"/endpoints"+c.below, ""); r.status != c.status {
			t.Errorf("delete by %s: %d %s", c.name, r.status, r.raw)
		}
	}
	if got := ids(); len(got) != 0 {
		t.Errorf("there are still %v", got)
	}
}
