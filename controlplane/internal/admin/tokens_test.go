package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/access"
)

func TestLifeOfAToken(t *testing.T) {
	a := newAPI(t)
	r := a.must("POST", "/api/v1/tokens", `{"name":"deploy","role":"editor","user":"ann"}`)
	id, _ := r.field("id").(string)
	text, _ := r.field("token").(string)
	if r.status != 201 || r.header.Get("Location") != "/api/v1/tokens/"+id || r.field("created_by") != "admin" ||
		!access.IsToken(text) {
		t.Fatalf("create: %d %v %s", r.status, r.header, r.raw)
	}
	ends, err := time.Parse(time.RFC3339, r.field("expires_at").(string))
	if left := time.Until(ends); err != nil || left < usualTTL-time.Minute || left > usualTTL {
		t.Errorf("it ends in %s, %v", left, err)
	}
	as := []string{"Authorization", "Bearer " + text, "Gateway-Author", "somebody else"}
	r = a.must("GET", "/api/v1/whoami", "", as...)
	if r.field("name") != "deploy" || r.field("role") != "editor" || r.field("method") != "token" ||
		r.field("user") != "ann" {
		t.Errorf("who am I: %s", r.raw)
	}
	a.must("POST", "/api/v1/config/services", users, as...)
	a.must("POST", "/api/v1/config/apply?author=ann", `{"services":[{"name":"more"}]}`, as...)
	for n := 1; n <= 2; n++ {
		if r := a.must("GET", fmt.Sprint("/api/v1/config/revisions/", n), ""); r.field("author") != "deploy" {
			t.Errorf("revision %d is by %v", n, r.field("author"))
		}
	}
	for _, path := range []string{"/api/v1/tokens", "/api/v1/tokens/deploy", "/api/v1/tokens/" + id} {
		if r := a.must("GET", path, ""); strings.Contains(r.raw, text) || !strings.Contains(r.raw, `"last_used_at":"2`) {
			t.Errorf("%s: %s", path, r.raw)
		}
	}
	if r := a.call("POST", "/api/v1/tokens", `{"name":"deploy","role":"viewer"}`); r.status != 409 ||
		r.Error.Field != "name" {
		t.Errorf("another one of that name: %d %s", r.status, r.raw)
	}
	if r := a.must("DELETE", "/api/v1/tokens/deploy", ""); r.field("revoked_at") == nil {
		t.Errorf("revoke: %s", r.raw)
	}
	if r := a.call("GET", "/api/v1/whoami", "", as...); r.status != 401 {
		t.Errorf("a revoked token: %d %s", r.status, r.raw)
	}
	if r := a.call("DELETE", "/api/v1/tokens/deploy", ""); r.status != 404 {
		t.Errorf("revoke it again: %d %s", r.status, r.raw)
	}
	if r := a.must("GET", "/api/v1/tokens", ""); r.Meta.Total != 0 {
		t.Errorf("valid ones: %s", r.raw)
	}
	if r := a.must("GET", "/api/v1/tokens?all=true", ""); r.Meta.Total != 1 {
		t.Errorf("all: %s", r.raw)
	}
	a.tokenFor(`{"name":"deploy","role":"viewer"}`)
}

func TestTokensThatCantBe(t *testing.T) {
	a := newAPI(t)
	for _, c := range []struct{ name, query, body, field string }{
		{"no name", "", `{"role":"viewer"}`, "name"},
		{"a name of two lines", "", `{"name":"a\nb","role":"viewer"}`, "name"},
		{"a name with a blank", "", `{"name":"a b","role":"viewer"}`, "name"},
		{"a name that is too long", "", `{"name":"` + strings.Repeat("a", 101) + `","role":"viewer"}`, "name"},
		{"the administrator's name", "", `{"name":"Admin","role":"viewer"}`, "name"},
		{"a user of two lines", "", `{"name":"a","user":"\u0000","role":"viewer"}`, "user"},
		{"no role", "", `{"name":"a"}`, "role"},
		{"a role that is none", "", `{"name":"a","role":"root"}`, "role"},
		{"an administrator of some", "", `{"name":"a","role":"admin","labels":{"team":"a"}}`, "role"},
		{"a kind that is none", "", `{"name":"a","role":"editor","kinds":["routes","cats"]}`, "kinds[1]"},
		{"a label without a key", "", `{"name":"a","role":"editor","labels":{"":"x"}}`, "labels"},
		{"a token of one's own", "", `{"name":"a","role":"viewer","token":"` + access.Prefix + `x"}`, "token"},
		{"an id of one's own", "", `{"name":"a","role":"viewer","id":"x"}`, "id"},
		{"too short", "?ttl=1s", `{"name":"a","role":"viewer"}`, "ttl"},
		{"too long", "?ttl=9000h", `{"name":"a","role":"viewer"}`, "ttl"},
		{"no time", "?ttl=soon", `{"name":"a","role":"viewer"}`, "ttl"},
		{"two ends", "?ttl=1h", `{"name":"a","role":"viewer","expires_at":"2099-01-01T00:00:00Z"}`, "ttl"},
		{"an end in the past", "", `{"name":"a","role":"viewer","expires_at":"2019-01-01T00:00:00Z"}`, "expires_at"},
		{"an end that is too far", "", `{"name":"a","role":"viewer","expires_at":"2099-01-01T00:00:00Z"}`, "expires_at"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := a.call("POST", "/api/v1/tokens"+c.query, c.body)
			if r.status != 400 || r.Error.Field != c.field {
				t.Errorf("%d %q: %s", r.status, r.Error.Field, r.raw)
			}
		})
	}
	if r := a.must("GET", "/api/v1/tokens?all=true", ""); r.Meta.Total != 0 {
		t.Errorf("there are tokens: %s", r.raw)
	}
	text, _ := access.NewToken()
	if r := a.call("GET", "/api/v1/tokens/"+text, ""); r.status != 404 || strings.Contains(r.raw, text) {
		t.Errorf("a token's text in place of its id: %d %s", r.status, r.raw)
	}
}

// TestTokensBelongIntoTheHeader: nowhere else are they looked for.
func TestTokensBelongIntoTheHeader(t *testing.T) {
	a := newAPI(t)
	for _, query := range []string{"access_token", "token", "authorization"} {
		r := a.call("GET", "/api/v1/config/routes?"+query+"="+token, "", "Authorization", "")
		if r.status != http.StatusUnauthorized || strings.Contains(r.raw, token) {
			t.Errorf("in the query alone: %d %s", r.status, r.raw)
		}
		r = a.call("GET", "/api/v1/config/routes?"+query+"="+token, "")
		if r.status != http.StatusBadRequest || strings.Contains(r.raw, token) {
			t.Errorf("in the query too: %d %s", r.status, r.raw)
		}
	}
	for _, fields := range [][]string{{"Basic " + token}, {token}, {"Bearer"}, {"Bearer " + token, "Bearer " + token}} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", a.url+"/api/v1/config/routes", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header["Authorization"] = fields
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%d fields: %d", len(fields), res.StatusCode)
		}
	}
}

// TestConfinedTokens: a change that touches a resource outside of a token's scope is refused whole, however it is made.
func TestConfinedTokens(t *testing.T) {
	a := newAPI(t)
	const start = `{"services":[
		{"name":"mine","labels":{"team":"a"},"endpoints":[{"host":"127.0.0.1","port":9000}],"circuit_breaker_config":{}},
		{"name":"theirs","labels":{"team":"b"},"endpoints":[{"host":"127.0.0.1","port":9001}],"circuit_breaker_config":{}}],
		"routes":[{"name":"mine","path":"/mine","service_id":"mine","labels":{"team":"a"}},
		{"name":"theirs","path":"/theirs","service_id":"theirs","labels":{"team":"b"}}],
		"policies":[{"name":"mine","labels":{"team":"a"}},{"name":"p","rate_limits":[{"name":"l","limit":5}]}],
		"middleware":[{"name":"m","type":"rate_limit","config":{"limit":5}}]}`
	a.must("POST", "/api/v1/config/apply", start)
	a.must("PATCH", "/api/v1/config/routes/theirs", `{"priority":7}`)
	text := a.tokenFor(`{"name":"team-a","role":"operator","kinds":["routes","services"],"labels":{"team":"a"}}`)
	as := []string{"Authorization", "Bearer " + text}
	const mine = `{"name":"m","labels":{"team":"a"}}`
	for _, c := range []struct{ name, method, path, body, refused string }{
		{"create what is not theirs", "POST", "/config/services", `{"name":"s"}`, `service "s"`},
		{"create for another team", "POST", "/config/services", `{"name":"s","labels":{"team":"b"}}`, `service "s"`},
		{"another kind", "POST", "/config/policies", mine, `policy "m"`},
		{"replace", "PUT", "/config/routes/theirs", `{"path":"/x","service_id":"mine","labels":{"team":"a"}}`,
			`route "theirs"`},
		{"create by PUT", "PUT", "/config/routes/new", `{"path":"/x","service_id":"mine"}`, `route "new"`},
		{"patch", "PATCH", "/config/routes/theirs", `{"priority":1}`, `route "theirs"`},
		{"take a label over", "PATCH", "/config/routes/theirs", `{"labels":{"team":"a"}}`, `route "theirs"`},
		{"give a label away", "PATCH", "/config/routes/mine", `{"labels":{"team":"b"}}`, `route "mine"`},
		{"take the labels away", "PATCH", "/config/routes/mine", `{"labels":null}`, `route "mine"`},
		{"delete", "DELETE", "/config/routes/theirs", "", `route "theirs"`},
		{"disable", "POST", "/config/routes/theirs/disable", "", `route "theirs"`},
		{"an endpoint", "POST", "/config/services/theirs/endpoints", `{"host":"127.0.0.1","port":9}`, `service "theirs"`},
		{"an endpoint away", "DELETE", "/config/services/theirs/endpoints/127.0.0.1/9001", "", `service "theirs"`},
		{"apply both", "POST", "/config/apply", `{"services":[` + mine + `,{"name":"o"}]}`, `service "o"`},
		{"a dry run of both", "POST", "/config/apply?dry_run=true", `{"services":[` + mine + `,{"name":"o"}]}`,
			`service "o"`},
		{"prune", "POST", "/config/apply?prune=true&allow_shrink=true", `{"services":[` + mine + `]}`, "confined"},
		{"roll back", "POST", "/config/revisions/1/rollback", "", `route "theirs"`},
		{"a circuit", "POST", "/health/circuit-breakers/theirs/force-open", "", `service "theirs"`},
		{"close a circuit", "POST", "/health/circuit-breakers/theirs/reset", "", `service "theirs"`},
		{"a limit of a policy", "POST", "/limits/l/reset", "", `policy "p"`},
		{"a limit of middleware", "POST", "/limits/m/reset", "", `middleware "m"`},
		{"their own service", "POST", "/config/services", mine, ""},
		{"their own route", "PATCH", "/config/routes/mine", `{"priority":3,"service_id":"theirs"}`, ""},
		{"their own circuit", "POST", "/health/circuit-breakers/mine/reset", "", ""},
		{"apply their own", "POST", "/config/apply", `{"services":[{"name":"n","labels":{"team":"a","x":"y"}}]}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := a.catalog.Current().Revision
			r := a.call(c.method, "/api/v1"+c.path, c.body, as...)
			if c.refused == "" {
				if r.status >= 300 {
					t.Errorf("%d %s", r.status, r.raw)
				}
				return
			}
			if r.status != 403 || r.Error.Code != "FORBIDDEN" || !strings.Contains(r.Error.Message, c.refused) ||
				len(r.Error.Details) != 1 {
				t.Errorf("%d %s", r.status, r.raw)
			}
			if now := a.catalog.Current().Revision; now != before {
				t.Errorf("revision %d was committed", now)
			}
		})
	}
	if r := a.must("GET", "/api/v1/config/routes", "", as...); r.Meta.Total != 2 {
		t.Errorf("what they read: %s", r.raw)
	}
}

// TestConfinedTokensChangeResourcesAlone: what has neither a kind nor labels is not theirs, whichever call it is.
func TestConfinedTokensChangeResourcesAlone(t *testing.T) {
	a := newAPI(t)
	conn := a.dial()
	for name, scope := range map[string]string{"kinds": `"kinds":["routes"]`, "labels": `"labels":{"team":"a"}`} {
		text := a.tokenFor(`{"name":"` + name + `","role":"operator",` + scope + `}`)
		methods(func(service, method string, m methodDescriptor) {
			full := apiPackage + service + "/" + method
			if !a.server.changes(full) || ofResources(full) {
				return
			}
			if err := a.invoke(conn, text, m); status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s: %s/%s: %v", name, service, method, err)
			}
		})
		as := []string{"Authorization", "Bearer " + text}
		r := a.call("POST", "/api/v1/nodes/n1/revoke", `{}`, as...)
		if r.status != 403 || !strings.Contains(r.Error.Message, "is confined") {
			t.Errorf("revoke a node: %d %s", r.status, r.raw)
		}
		a.must("GET", "/api/v1/nodes", "", as...)
	}
}

// TestAuditNamesNodesAndJoinTokens: the trail says which one it was.
func TestAuditNamesNodesAndJoinTokens(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/nodes/n1/revoke", `{"reason":"stolen"}`)
	a.must("POST", "/api/v1/nodes/n2/revoke", `{}`)
	for _, query := range []string{"kind=node&name=n1", "name=n1"} {
		if r := a.must("GET", "/api/v1/audit?outcome=done&"+query, ""); r.Meta.Total != 1 ||
			!strings.Contains(r.raw, "RevokeNode") {
			t.Errorf("%s: %s", query, r.raw)
		}
	}
	for _, kind := range []string{"join_token", "session", "token"} {
		a.must("GET", "/api/v1/audit?kind="+kind, "")
	}
}
