package config

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// TestTextsWithoutValues puts resources that have the text of a file where a value would be: what follows from that is
// not said too, a value that is stored stands in for it, and without a store it is taken.
func TestTextsWithoutValues(t *testing.T) {
	const text = "${env:V}"
	for field, c := range map[string]struct {
		value string // one that is right
		make  func(value string, environment map[string]string) Message
	}{
		"timeout": {"5s", func(v string, e map[string]string) Message {
			return &configv1.Policy{Name: "x", Timeout: v, Environment: e}
		}},
		"path": {"/a", func(v string, e map[string]string) Message {
			return &configv1.Route{Name: "x", Path: v, DirectResponse: &configv1.DirectResponse{}, Environment: e}
		}},
		"hosts[0]": {"a.test", func(v string, e map[string]string) Message {
			return &configv1.Route{Name: "x", Path: "/", Hosts: []string{v}, DirectResponse: &configv1.DirectResponse{},
				Environment: e}
		}},
		"endpoints[0].host": {"127.0.0.1", func(v string, e map[string]string) Message {
			return &configv1.Service{Name: "x", Endpoints: []*configv1.Endpoint{{Host: v, Port: 80}}, Environment: e}
		}},
		"config.max_age": {"1h", func(v string, e map[string]string) Message {
			settings, err := structpb.NewStruct(map[string]any{"allow_origins": []any{"*"}, "max_age": v})
			if err != nil {
				t.Fatal(err)
			}
			return &configv1.Middleware{Name: "x", Type: "cors", Config: settings, Environment: e}
		}},
		"config.allow_credentials": {"x", func(v string, e map[string]string) Message { // a text where none may be
			settings, err := structpb.NewStruct(map[string]any{"allow_origins": []any{"*"}, "allow_credentials": v})
			if err != nil {
				t.Fatal(err)
			}
			return &configv1.Middleware{Name: "x", Type: "cors", Config: settings, Environment: e}
		}},
	} {
		t.Run(field, func(t *testing.T) {
			unknown := c.make(text, map[string]string{field: text})
			_, err := Empty().Plan([]Edit{put(unknown)}, options())
			problems, _ := errors.AsType[Problems](err)
			if len(problems) != 1 || problems[0].Field != field || problems[0].Value != text ||
				!strings.Contains(problems[0].Message, "no value of it is stored") {
				t.Errorf("alone: %v", err)
			}
			opts := options()
			opts.LeftOut = true
			plan, err := Empty().Plan([]Edit{put(unknown)}, opts)
			if err != nil || !strings.Contains(plan.Warnings().Error(), "not everything was checked") {
				t.Errorf("where it can't be seen whether it is stored: %v, %v", plan, err)
			}
			if c.value == "x" {
				return
			}
			opts = options()
			opts.Stored = mustPlan(t, Empty(), put(c.make(c.value, map[string]string{field: text}))).Config
			plan, err = Empty().Plan([]Edit{put(unknown)}, opts)
			if err != nil || len(plan.Changes) != 1 || texts(plan.Changes[0].After.Message)[field] != c.value {
				t.Errorf("where it is stored: %v, %v", plan, err)
			}
			opts.Stored = mustPlan(t, Empty(), put(c.make(c.value, map[string]string{field: "${env:W}"}))).Config
			if _, err = Empty().Plan([]Edit{put(unknown)}, opts); err == nil {
				t.Error("where another text is stored: taken")
			}
		})
	}
}
