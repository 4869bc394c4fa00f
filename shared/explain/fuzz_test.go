package explain_test

import (
	"strings"
	"testing"

	"gateway.internal/shared/explain"
	"gateway.internal/shared/explain/explaintest"
	"gateway.internal/shared/pathnorm"
)

// FuzzExplain asks about any request under each of the golden configurations. What is foretold is never ambiguous: the
// path that a route sees is a path, leads to the same route when it is sent as it is, and stays as it is then.
func FuzzExplain(f *testing.F) {
	var all []*explain.Compiled
	for _, s := range explaintest.Scenarios(f, "testdata") {
		c, err := explaintest.Plan(s.Configuration)
		if err != nil {
			f.Fatal(err)
		}
		compiled, err := explain.Compile(c, pathnorm.DefaultSettings())
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, compiled)
		for _, c := range s.Cases {
			method, url, _ := strings.Cut(c.Request, " ")
			f.Add(method, url, strings.Join(c.Fields, "\n"), c.Random)
		}
	}
	f.Fuzz(func(t *testing.T, method, url, fields string, random uint32) {
		var lines []string
		if fields != "" {
			lines = strings.Split(fields, "\n")
		}
		h, err := explain.ParseHead(method, url, lines)
		if err != nil {
			return
		}
		h.Random = random
		for _, c := range all {
			e := c.Explain(h)
			if e.Upstream != nil && (e.Upstream.Target == "" || e.Upstream.Target[0] != '/') {
				t.Fatalf("%s %q: the service gets the target %q", method, url, e.Upstream.Target)
			}
			if e.Route == "" || e.Path == "" {
				continue
			}
			again := *h
			again.Path = e.Path
			if same := c.Explain(&again); same.Route != e.Route || same.Path != e.Path {
				t.Fatalf("%s %q goes to %s as %q, and that to %s as %q", method, url, e.Route, e.Path, same.Route, same.Path)
			}
		}
	})
}
