package config

import (
	"errors"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestRedirectsAreValidated(t *testing.T) {
	for _, c := range []struct {
		name  string
		route *configv1.Route
		field string // with a problem; empty: none
	}{
		{"to https", &configv1.Route{Path: "/*", Redirect: &configv1.Redirect{Scheme: "https"}}, ""},
		{"http to https", &configv1.Route{Path: "/*", Schemes: []string{"http"}, Redirect: &configv1.Redirect{Scheme: "https"}}, ""},
		{"https to https", &configv1.Route{Path: "/*", Schemes: []string{"https"}, Redirect: &configv1.Redirect{Scheme: "https"}}, "redirect.scheme"},
		{"https to https at another port", &configv1.Route{Path: "/*", Schemes: []string{"https"}, Redirect: &configv1.Redirect{Scheme: "https", Port: 8443}}, ""},
		{"nothing", &configv1.Route{Path: "/*", Redirect: &configv1.Redirect{}}, "redirect"},
		{"a port", &configv1.Route{Path: "/*", Redirect: &configv1.Redirect{Port: 8443}}, ""},
		{"no port", &configv1.Route{Path: "/*", Redirect: &configv1.Redirect{Port: 70_000}}, "redirect.port"},
		{"two ports", &configv1.Route{Path: "/*", Redirect: &configv1.Redirect{Host: "a.test:81", Port: 82}}, "redirect.port"},
		{"another status", &configv1.Route{Path: "/*", Redirect: &configv1.Redirect{Host: "a.test", Status: 304}}, "redirect.status"},
		{"the same path", &configv1.Route{Path: "/a", Redirect: &configv1.Redirect{Path: "/a"}}, "redirect"},
		{"the same path elsewhere", &configv1.Route{Path: "/a", Redirect: &configv1.Redirect{Path: "/a", Host: "b.test"}}, ""},
		{"the same path without its query", &configv1.Route{Path: "/a", Redirect: &configv1.Redirect{Path: "/a", StripQuery: true}}, ""},
		{"the same parameters", &configv1.Route{Path: "/a/{b}", Redirect: &configv1.Redirect{Path: "/a/{b}"}}, "redirect"},
		{"the same host", &configv1.Route{Path: "/*", Hosts: []string{"A.test"}, Redirect: &configv1.Redirect{Host: "a.test"}}, "redirect"},
		{"one of its hosts", &configv1.Route{Path: "/*", Hosts: []string{"a.test", "www.a.test"}, Redirect: &configv1.Redirect{Host: "a.test"}}, ""},
		{"no scheme", &configv1.Route{Path: "/*", Schemes: []string{"ftp"}, DirectResponse: &configv1.DirectResponse{}}, "schemes[0]"},
		{"a scheme twice", &configv1.Route{Path: "/*", Schemes: []string{"http", "http"}, DirectResponse: &configv1.DirectResponse{}}, "schemes[1]"},
		{"a port out of range", &configv1.Route{Path: "/*", Ports: []uint32{80, 0}, DirectResponse: &configv1.DirectResponse{}}, "ports[1]"},
		{"a port twice", &configv1.Route{Path: "/*", Ports: []uint32{80, 80}, DirectResponse: &configv1.DirectResponse{}}, "ports[1]"},
		{"too many ports", &configv1.Route{Path: "/*", Ports: make([]uint32, 17), DirectResponse: &configv1.DirectResponse{}}, "ports"},
	} {
		c.route.Name = "r"
		_, err := Empty().Plan([]Edit{put(c.route)}, options())
		var ps Problems
		errors.As(err, &ps)
		if c.field == "" && err != nil || c.field != "" && (len(ps) != 1 || ps[0].Field != c.field) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
