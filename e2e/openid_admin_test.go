package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// adminAudience is what tokens for the admin API are for.
const adminAudience = "http://admin.example"

// adminOf starts a control plane that lets in who has a token of a provider.
func adminOf(t *testing.T, p *provider, args ...string) *gateway {
	t.Helper()
	return newGateway(t, append([]string{"--oidc-issuer", p.issuer, "--oidc-audience", adminAudience,
		"--oidc-role-claim", "groups", "--oidc-roles", "platform=admin,shop-team=editor:services"}, args...)...)
}

// adminToken asks for a token of a client's own, for the admin API.
func (p *provider) adminToken(client string) string {
	p.t.Helper()
	return p.tokenOf(client, url.Values{"scope": {"read"}, "resource": {adminAudience}})
}

// as makes a call of REST with a token.
func (g *gateway) as(token, method, path, body string) (status int, text string) {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://"+g.rest+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(all)
}

// whoami is who the control plane takes the bearer of a token for, "NAME ROLE METHOD KINDS", or the refusal's status
// and code.
func (g *gateway) whoami(token string) string {
	g.t.Helper()
	status, text := g.as(token, http.MethodGet, "/api/v1/whoami", "")
	var reply struct {
		Data struct {
			Name, Role, Method string
			Kinds              []string
		}
		Error struct{ Code string }
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		g.t.Fatalf("%d %s: %v", status, text, err)
	}
	if status != 200 {
		return fmt.Sprint(status, " ", reply.Error.Code)
	}
	return fmt.Sprint(reply.Data.Name, " ", reply.Data.Role, " ", reply.Data.Method, " ", reply.Data.Kinds)
}

const (
	refusedToken = "401 UNAUTHENTICATED"
	operations   = "oidc:ops admin oidc []"
)

// TestOpenIDAdmin lets in to the admin API who has a token of a certified provider: as whom, as what, for how long;
// also while it is away, and after its keys have changed.
func TestOpenIDAdmin(t *testing.T) {
	p := newProvider(t)
	g := adminOf(t, p)
	brief := p.adminToken("brief")
	for name, c := range map[string]struct{ token, want string }{
		"an administrator":   {p.adminToken("ops"), operations},
		"a confined editor":  {p.adminToken("team"), "oidc:team editor oidc [services]"},
		"no group with role": {p.adminToken("guest"), refusedToken},
		"no group":           {p.adminToken("api"), refusedToken},
		"another audience": {p.tokenOf("ops", url.Values{"scope": {"read"}, "resource": {"http://api.example"}}),
			refusedToken},
		"an opaque token": {p.tokenOf("ops", url.Values{}), refusedToken},
	} {
		if got := g.whoami(c.token); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}

	team := p.adminToken("team")
	if status, text := g.as(team, "POST", "/api/v1/config/services",
		`{"name": "app", "endpoints": [{"host": "127.0.0.1", "port": 1}]}`); status != 201 && status != 200 {
		t.Errorf("a service: %d %s", status, text)
	}
	if status, text := g.as(team, "POST", "/api/v1/config/routes",
		`{"name": "app", "path": "/*", "service_id": "app"}`); status != 403 {
		t.Errorf("a route: %d %s", status, text)
	}
	waittest.UntilNil(t, "the audit trail has the change and the refusal by name", func() error {
		_, text := g.as(p.adminToken("ops"), "GET", "/api/v1/audit", "")
		var reply struct {
			Data []struct{ Actor, Outcome, Call string }
		}
		if err := json.Unmarshal([]byte(text), &reply); err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, e := range reply.Data {
			if e.Actor == "oidc:team" {
				seen[e.Outcome] = true
			}
		}
		if !seen["done"] || !seen["refused"] {
			return fmt.Errorf("it has %v of: %s", seen, text)
		}
		return nil
	})

	waittest.Until(t, "a token of five seconds has ended", func() bool {
		got := g.whoami(brief)
		if got != "oidc:brief admin oidc []" && got != refusedToken {
			t.Fatal(got)
		}
		return got == refusedToken
	})

	seen, unseen := p.adminToken("ops"), p.adminToken("ops")
	if got := g.whoami(seen); got != operations {
		t.Fatal(got)
	}
	p.kill()
	for name, token := range map[string]string{"seen before": seen, "new to the control plane": unseen} {
		if got := g.whoami(token); got != operations {
			t.Errorf("a token that is %s, while the provider is away: %s", name, got)
		}
	}
	if got := g.whoami(brief); got != refusedToken {
		t.Errorf("a token that has ended, while the provider is away: %s", got)
	}
	g.control.kill()
	g.control.start()
	g.ready()
	const unknown = "502 UPSTREAM_UNAVAILABLE"
	if got := g.whoami(seen); got != unknown {
		t.Errorf("a control plane that has never had the keys: %s", got)
	}
	if got := g.whoami(adminToken); got != "admin admin administrator []" {
		t.Errorf("the administrator, while the provider is away: %s", got)
	}

	p.start() // with other keys
	p.answers()
	of := func(token string, others ...string) func() bool {
		return func() bool {
			got := g.whoami(token)
			if got != operations && !slices.Contains(others, got) {
				t.Fatalf("%s", got)
			}
			return got == operations
		}
	}
	waittest.Until(t, "the provider is asked again", of(p.adminToken("ops"), unknown))
	if got := g.whoami(seen); got != refusedToken {
		t.Errorf("a token of the keys before: %s", got)
	}
	p.kill() // the control plane stays
	p.start()
	p.answers()
	waittest.Until(t, "keys have changed under the control plane", // unknown keys are asked about every 5 seconds
		of(p.adminToken("ops"), refusedToken, "429 RATE_LIMIT_EXCEEDED"))
}
