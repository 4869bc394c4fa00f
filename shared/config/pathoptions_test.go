package config

import (
	"fmt"
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// optionsRoute returns a valid route with path options.
func optionsRoute(name, path string, o *configv1.PathOptions, most uint32) *configv1.Route {
	return &configv1.Route{Name: name, Path: path, PathOptions: o, MaxTargetBytes: most, DirectResponse: &configv1.DirectResponse{Body: "hi"}}
}

func TestPathOptionsAreChecked(t *testing.T) {
	for _, test := range []struct {
		options *configv1.PathOptions
		most    uint32
		fails   string // what the error says; empty: there is none
	}{
		{nil, 0, ""},
		{&configv1.PathOptions{DotSegments: "normalise", EncodedNul: "keep", Unescaped: "keep"}, 64, ""},
		{&configv1.PathOptions{EncodedSlash: "normalize"}, 0, "path_options.encoded_slash"},
		{&configv1.PathOptions{EncodedNul: "normalise"}, 0, "path_options.encoded_nul"},
		{&configv1.PathOptions{InvalidUtf8: "Keep"}, 0, "path_options.invalid_utf8"},
		{nil, 63, "max_target_bytes"},
		{nil, 65537, "max_target_bytes"},
	} {
		_, err := Empty().Plan([]Edit{put(optionsRoute("a", "/a", test.options, test.most))}, options())
		if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
			t.Errorf("%v, %d: %v, want %q", test.options, test.most, err, test.fails)
		}
	}
}

func TestPathOptionsAreFew(t *testing.T) {
	actions := []string{"refuse", "normalise", "keep"}
	var edits []Edit
	for i := range MaxPathOptions + 1 {
		for _, half := range []string{"a", "b"} { // the same once more is no other
			name := fmt.Sprintf("%s%d", half, i)
			edits = append(edits, put(optionsRoute(name, "/"+name, &configv1.PathOptions{DotSegments: actions[i%3], EncodedSlash: actions[i/3]}, 0)))
		}
	}
	base := mustPlan(t, Empty(), edits[:2*MaxPathOptions]...).Config
	if _, err := base.Plan(edits[2*MaxPathOptions:], options()); err == nil || !strings.Contains(err.Error(), "8 are allowed") {
		t.Errorf("one too many: %v", err)
	}
	mustPlan(t, base, put(optionsRoute("c", "/c", nil, 0)))
}

// A route sees paths that the one before it refuses: it is of use.
func TestOtherViewsShadowNothing(t *testing.T) {
	first := optionsRoute("a", "/*", nil, 0)
	first.Priority = 1
	if plan := mustPlan(t, Empty(), put(first), put(optionsRoute("b", "/b", nil, 0))); len(plan.Warnings()) != 1 {
		t.Errorf("a route that is shadowed: %v", plan.Warnings())
	}
	if plan := mustPlan(t, Empty(), put(first), put(optionsRoute("b", "/b", &configv1.PathOptions{EncodedSlash: "keep"},
		0))); len(plan.Warnings()) != 0 {
		t.Errorf("a route that sees other paths: %v", plan.Warnings())
	}
}
