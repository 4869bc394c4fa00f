package file

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestAliasesStayBounded(t *testing.T) {
	laughs := "middleware:\n  - name: m\n    type: headers\n    config:\n      a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 8 {
		laughs += fmt.Sprintf("      %c: &%[1]c [%s*%c]\n", 'b'+i, strings.Repeat(fmt.Sprintf("*%c,", 'a'+i), 9), 'a'+i)
	}
	hosts := "&hosts [" + strings.Repeat("x.example,", 999) + "x.example]"
	route := func(i int) string { return fmt.Sprintf("  - {name: r%d, path: /, hosts: *hosts}\n", i) }
	label := func(i int) string { return fmt.Sprintf("  - {name: r%d, path: /, labels: {a: *text}}\n", i) }
	all := func(n int, f func(int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String()
	}
	for _, c := range []struct{ name, text, want string }{
		{"aliases of aliases", laughs, "-:10:"},
		{"a list of strings in 500 routes", "routes:\n  - {name: r, path: /, hosts: " + hosts + "}\n" + all(500, route),
			"-:411:34: *hosts stands for 41032 bytes, with which all aliases stand for more than 16 MiB"},
		{"a long text in 500 routes", "routes:\n  - {name: r, path: /, labels: {a: &text " + strings.Repeat("x",
			100_000) + "}}\n" + all(500, label), "*text stands for 100032 bytes"},
		{"several documents", strings.Repeat("routes:\n  - {name: r, path: /, labels: {a: &text "+strings.Repeat("x",
			100_000)+"}}\n"+all(60, label)+"---\n", 3), "*text stands for"},
		{"a list in itself", "routes: &a [*a]\n", "-:1:13: *a is a part of what it stands for"},
		{"a mapping in itself", "middleware:\n  - &m {name: m, config: {a: *m}}\n",
			"-:2:30: *m is a part of what it stands for"},
		{"the list in 10 routes", "routes:\n  - {name: r, path: /, hosts: " + hosts + "}\n" + all(10, route), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(c.text)
			var errs Errors
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (!errors.As(err, &errs) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %.300v, want %q", err, c.want)
			}
		})
	}
}
