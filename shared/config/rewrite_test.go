package config

import (
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestReverseOfRewrite(t *testing.T) {
	for _, c := range []struct {
		name    string
		rewrite *configv1.Rewrite
		err     string
	}{
		{"of a prefix", &configv1.Rewrite{PathRewrite: &configv1.Rewrite_Prefix{Prefix: "/"}, Reverse: true}, ""},
		{"of a host", &configv1.Rewrite{Host: EndpointHost, Reverse: true}, ""},
		{"of a template", &configv1.Rewrite{PathRewrite: &configv1.Rewrite_Path{Path: "/x"}, Reverse: true}, "rewrite.reverse"},
		{"of a regex", &configv1.Rewrite{PathRewrite: &configv1.Rewrite_Regex{Regex: &configv1.RegexRewrite{Pattern: "a", Substitution: "b"}}, Reverse: true}, "rewrite.reverse"},
		{"of nothing", &configv1.Rewrite{Reverse: true}, "changes nothing"},
	} {
		route := &configv1.Route{Name: "r", Path: "/a/*", ServiceId: "s", Rewrite: c.rewrite}
		_, err := Empty().Plan([]Edit{put(service("s")), put(route)}, options())
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
