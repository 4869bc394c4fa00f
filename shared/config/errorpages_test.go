package config

import (
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestErrorPages(t *testing.T) {
	page := func(contentType, body string) *configv1.ErrorPage {
		return &configv1.ErrorPage{Bodies: []*configv1.ErrorBody{{ContentType: contentType, Body: body}}}
	}
	for _, c := range []struct {
		name string
		page *configv1.ErrorPage
		err  string
	}{
		{"text", page("text/plain", "${error.message}"), ""},
		{"JSON", page("application/problem+json", `{"status": ${response.status}, "title": "${error.message}"}`), ""},
		{"the gateway's own JSON", page("application/json", ""), ""},
		{"no bodies", &configv1.ErrorPage{}, "bodies"},
		{"an empty body", page("text/html", ""), "is required"},
		{"an unknown variable", page("text/html", "${error.mesage}"), "did you mean ${error.message}?"},
		{"JSON with a bare text", page("application/json", `{"title": ${error.message}}`), "is no JSON"},
		{"variables where they can't be written", page("image/svg", "${route}"), "only possible in"},
		{"no media type", page("html", "x"), "media type"},
		{"a range", page("text/*", "x"), "media type"},
		{"an unknown code", &configv1.ErrorPage{Codes: []string{"ROUTE_NOT_FUOND"}, Bodies: page("text/plain", "x").Bodies}, `did you mean "ROUTE_NOT_FOUND"?`},
		{"a status that is no error's", &configv1.ErrorPage{Statuses: []string{"200"}, Bodies: page("text/plain", "x").Bodies}, "statuses[0]"},
		{"a type twice", &configv1.ErrorPage{Bodies: append(page("text/plain", "x").Bodies, page("TEXT/plain; charset=utf-8", "y").Bodies...)}, "is there twice"},
	} {
		_, err := Empty().Plan([]Edit{put(&configv1.Policy{Name: "p", Errors: []*configv1.ErrorPage{c.page}})}, options())
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestGlobalPolicy(t *testing.T) {
	pages := []*configv1.ErrorPage{{Bodies: []*configv1.ErrorBody{{ContentType: "text/plain", Body: "x"}}}}
	global := func(name string) *configv1.Policy { return &configv1.Policy{Name: name, Global: true, Errors: pages} }
	base := mustPlan(t, Empty(), put(global("a"))).Config
	if p := base.GlobalPolicy(); p.GetName() != "a" || Empty().GlobalPolicy() != nil {
		t.Errorf("the global policy is %v", p)
	}
	for _, c := range []struct {
		name   string
		policy *configv1.Policy
		err    string
	}{
		{"another one", global("b"), `is said by policy "a" too`},
		{"with a timeout", &configv1.Policy{Name: "a", Global: true, Errors: pages, Timeout: "1s"}, "timeout can't be together with global"},
		{"without errors", &configv1.Policy{Name: "a", Global: true}, "is required with global"},
		{"no longer global", &configv1.Policy{Name: "a"}, ""},
	} {
		_, err := base.Plan([]Edit{put(c.policy)}, options())
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
