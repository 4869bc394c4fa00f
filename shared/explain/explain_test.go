package explain_test

import (
	"flag"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gateway.internal/shared/explain"
	"gateway.internal/shared/explain/explaintest"
	"gateway.internal/shared/pathnorm"
)

var update = flag.Bool("update", false, "write what is foretold into the golden files")

// TestGolden holds what is foretold against the golden files. The data plane's tests hold what a node does against
// them.
func TestGolden(t *testing.T) {
	for _, s := range explaintest.Scenarios(t, "testdata") {
		t.Run(s.Name, func(t *testing.T) {
			c, err := explaintest.Plan(s.Configuration)
			if err != nil {
				t.Fatal(err)
			}
			compiled, err := explain.Compile(c, pathnorm.DefaultSettings())
			if err != nil {
				t.Fatal(err)
			}
			for i := range s.Cases {
				c := &s.Cases[i]
				got := compiled.Explain(c.Head(t))
				if diff := cmp.Diff(&c.Result, got, cmpopts.IgnoreUnexported(explain.TLS{})); diff != "" && !*update {
					t.Errorf("%s: (-golden, +foretold)\n%s", c.Request, diff)
				}
				c.Result = *got
			}
			if *update {
				s.Write(t)
			}
		})
	}
}
