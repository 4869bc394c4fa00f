package match

import (
	"fmt"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// BenchmarkRegexes looks paths up among 10,000 prefixes and 1,000 regexes, half of which have their first variable part
// inside a segment.
func BenchmarkRegexes(b *testing.B) {
	var rules []*Rule
	for i := range 10_000 {
		rules = append(rules, rule(b, &configv1.Route{Name: fmt.Sprint("p", i), Path: fmt.Sprintf("/svc-%d/*", i)}))
	}
	for i := range 500 {
		rules = append(rules, rule(b, &configv1.Route{Name: fmt.Sprint("s", i), Path: fmt.Sprintf("~/app-%d/v[0-9]+/items", i)}))
		rules = append(rules, rule(b, &configv1.Route{Name: fmt.Sprint("m", i), Path: fmt.Sprintf("~/item%d-[a-z]+/x", i)}))
	}
	table := Compile(rules)
	for _, c := range []struct{ name, path, want string }{
		{"prefix", "/svc-9999/v1/things/42", "p9999"},
		{"regex after a segment", "/app-499/v12/items", "s499"},
		{"regex inside a segment", "/item499-abc/x", "m499"},
		{"none", "/item499_abc/x", ""},
	} {
		b.Run(c.name, func(b *testing.B) {
			q := &Request{Method: "GET", Host: "api.example.com", Path: c.path}
			var p Params
			b.ReportAllocs()
			for b.Loop() {
				if name(table.Match(q, &p)) != c.want {
					b.Fatal("another route")
				}
			}
		})
	}
}
