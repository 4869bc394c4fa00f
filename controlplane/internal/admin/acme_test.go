package admin

import (
	"strings"
	"testing"
)

// TestChallengesAreNotDesired has a challenge come and go under an apply that prunes, an export and rollbacks.
func TestChallengesAreNotDesired(t *testing.T) {
	a := newAPI(t)
	wish := `{"routes":[{"name":"a","path":"/a","direct_response":{"body":"a"}}],"certificates":[{"name":"shop","hosts":["shop.example"],"acme":{}}]}`
	a.must("POST", "/api/v1/config/apply", wish)
	a.must("POST", "/api/v1/config/routes", `{"name":"acme-1","labels":{"managed-by":"acme"},"path":"/.well-known/acme-challenge/t","direct_response":{"body":"t.k"}}`)
	for path, body := range map[string]string{"/api/v1/config/apply?prune=true": wish, "/api/v1/config/revisions/1/rollback": ""} {
		if r := a.must("POST", path, body); r.Meta.Revision != 2 || r.field("committed") != false {
			t.Errorf("%s touches the challenge: %s", path, r.raw)
		}
	}
	if r := a.must("POST", "/api/v1/config/diff?prune=true", wish); len(r.Data.([]any)) != 0 {
		t.Errorf("diff: %s", r.raw)
	}
	if r := a.must("GET", "/api/v1/config/export", ""); strings.Contains(r.raw, "acme-1") || !strings.Contains(r.raw, "shop.example") {
		t.Errorf("export: %s", r.raw)
	}
	a.must("DELETE", "/api/v1/config/routes/acme-1", "")
	if r := a.must("POST", "/api/v1/config/revisions/2/rollback", ""); r.Meta.Revision != 3 {
		t.Errorf("a rollback brings the challenge back: %s", r.raw)
	}
	if r := a.must("POST", "/api/v1/config/routes", `{"name":"mine","labels":{"managed-by":"acme"},"path":"/mine","direct_response":{"body":"x"}}`); r.Meta.Revision != 4 {
		t.Errorf("%s", r.raw)
	}
	if r := a.must("POST", "/api/v1/config/apply?prune=true", wish); r.Meta.Revision != 5 {
		t.Errorf("the label alone saves a route: %s", r.raw)
	}
}

func TestACMEOverTheAPI(t *testing.T) {
	a := newAPI(t)
	r := a.must("POST", "/api/v1/config/certificates", `{"name":"shop","hosts":["shop.example"],"acme":{}}`)
	if len(r.Meta.Warnings) != 1 || r.Meta.Warnings[0]["field"] != "acme" {
		t.Errorf("warnings: %s", r.raw)
	}
	r = a.call("POST", "/api/v1/config/certificates", `{"name":"wild","hosts":["*.shop.example"],"acme":{}}`)
	if r.status != 400 && r.status != 422 || r.Error.Field != "hosts[0]" || !strings.Contains(r.raw, "proved by HTTP") {
		t.Errorf("a wildcard: %d %s", r.status, r.raw)
	}
}
