package template

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Part
		err  string // what it has to say
	}{
		{"", nil, ""},
		{"plain $2a$10$ text {x}", []Part{{Literal: "plain $2a$10$ text {x}"}}, ""},
		{"${client.address}", []Part{{Variable: ClientAddress}}, ""},
		{"a${route}b${path.id}", []Part{{Literal: "a"}, {Variable: Route}, {Literal: "b"}, {Variable: PathParameter, Argument: "id"}}, ""},
		{"$${route} and $$${route}", []Part{{Literal: "${route} and $${route}"}}, ""},
		{"$ ${route}", []Part{{Literal: "$ "}, {Variable: Route}}, ""},
		{"${request.header.X-Tenant}", []Part{{Variable: RequestHeader, Argument: "X-Tenant"}}, ""},
		{"${", nil, `without "}"`},
		{"${route", nil, `without "}"`},
		{"${}", nil, "there are client.address"},
		{"${clinet.address}", nil, "did you mean ${client.address}?"},
		{"${path.}", nil, "no name follows"},
		{"${request.header.a b}", nil, "no name follows"},
		{"${error.code}", nil, "not known there"},
		{"${endpoint}", nil, "not known there"},
		{"${something.else.entirely}", nil, "request.header.NAME"},
		{strings.Repeat("${route}", MaxVariables+1), nil, "more than 64"},
	} {
		got, err := Parse(c.text, InRequest)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v", c.text, err)
		}
		if d := cmp.Diff(c.want, got); err == nil && d != "" {
			t.Errorf("%q: %s", c.text, d)
		}
	}
}

// Every variable can be used by its name somewhere, and no two names mean the same.
func TestDefinitions(t *testing.T) {
	seen := map[Variable]string{}
	for name, d := range definitions {
		if other, twice := seen[d.variable]; twice || d.variable == None || d.places == 0 || d.argument != strings.HasSuffix(name, ".") {
			t.Errorf("%s, %s: %+v", name, other, d)
		}
		seen[d.variable] = name
	}
	if len(seen) != int(TLSVersion) {
		t.Errorf("%d of %d variables have a name", len(seen), TLSVersion)
	}
}

// What is read can be written again, and is then read as the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "a${route}b", "$${x", "$$${route}", "${path.id}${", "${request.header.A}$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := Parse(text, InError)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, p := range parts {
			if p.Variable == None {
				again.WriteString(strings.ReplaceAll(p.Literal, "${", "$${"))
				continue
			}
			for name, d := range definitions {
				if d.variable == p.Variable {
					again.WriteString("${" + name + p.Argument + "}")
				}
			}
		}
		second, err := Parse(again.String(), InError)
		if err != nil || !cmp.Equal(parts, second) {
			t.Errorf("%q, again %q: %v %v", text, again.String(), second, err)
		}
	})
}
