package config

import (
	"slices"
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestMethods(t *testing.T) {
	for _, test := range []struct {
		given, kept []string
		warning     string // "": none
		refused     bool
	}{
		{given: []string{"get", "Post", "DELETE"}, kept: []string{"GET", "POST", "DELETE"}},
		{given: []string{"*"}, kept: []string{"*"}},
		{given: []string{"propfind"}, kept: []string{"PROPFIND"}},
		{given: []string{"GETT"}, kept: []string{"GETT"}, warning: `did you mean "GET"`},
		{given: []string{"gett"}, kept: []string{"gett"}, warning: `did you mean "GET"`},
		{given: []string{"PURGE-EVERYTHING"}, kept: []string{"PURGE-EVERYTHING"}, warning: "is no registered HTTP method"},
		{given: []string{"GE T"}, refused: true},
		{given: []string{"get", "GET"}, refused: true}, // twice the same
	} {
		t.Run(strings.Join(test.given, ","), func(t *testing.T) {
			for _, single := range []bool{false, true} {
				r := &configv1.Route{Name: "r", Path: "/r", DirectResponse: &configv1.DirectResponse{}}
				if single {
					if len(test.given) > 1 {
						continue
					}
					r.Method = test.given[0]
				} else {
					r.Methods = slices.Clone(test.given)
				}
				p, err := Empty().Plan([]Edit{put(r)}, options())
				if (err != nil) != test.refused {
					t.Fatalf("got %v", err)
				}
				if test.refused {
					continue
				}
				stored := p.Config.ByName(Route, "r").Message.(*configv1.Route)
				if got := append(slices.Clone(stored.GetMethods()), stored.GetMethod()); !slices.Equal(slices.DeleteFunc(got, func(s string) bool { return s == "" }), test.kept) {
					t.Errorf("kept %q", got)
				}
				if warned := len(p.Warnings()) > 0; warned != (test.warning != "") || warned &&
					!strings.Contains(p.Warnings()[0].Message, test.warning) {
					t.Errorf("warnings: %v", p.Warnings())
				}
				if again := mustPlan(t, p.Config, put(r)); len(again.Changes) != 0 {
					t.Errorf("putting the same again changes %v", again.Changes)
				}
			}
		})
	}
}
