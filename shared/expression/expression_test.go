package expression

import (
	"errors"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
)

func TestCompile(t *testing.T) {
	for _, c := range []struct{ text, wrong string }{ // a part of the error; empty: none
		{`request.method == "GET"`, ""},
		{`request.path.startsWith("/a/") && "admins" in identity.groups`, ""},
		{`request.headers["x-tenant"] == identity.claims.tenant`, ""},
		{`identity.claims.roles.exists(r, r == "admin")`, ""},
		{`has(request.headers.accept) && request.headers.accept.contains("json")`, ""},
		{`request.query["debug"] != "1" || request.size < 1024`, ""},
		{`now.getHours("Europe/Berlin") >= 8 && now < timestamp("2030-01-01T00:00:00Z")`, ""},
		{`cidr("10.0.0.0/8").containsIP(client.address) && client.port > 1023`, ""},
		{`client.tls.san.matches("(^|,)URI:spiffe://a/.*")`, ""},
		{`identity.authenticated && identity.scopes.all(s, s.startsWith("read:"))`, ""},
		{`identity.claims.level > 3`, ""},
		{`true`, ""},
		{``, "is empty"},
		{` `, "is empty"},
		{`request.method`, "is of type string, but has to be a bool"},
		{`identity.claims.admin`, "is of type dyn, but has to be a bool: compare it, such as by == true"},
		{`request.method == 1`, "line 1, column 16: found no matching overload for '_==_'"},
		{"request.method == 'GET' &&\n request.pth == ''", "line 2, column 9: there is no variable or function"},
		{`request.method = "GET"`, "line 1, column 16: Syntax error"},
		{`requst.method == "GET"`, `there is no variable or function "requst.method"; did you mean "request.method"?`},
		{`request == "GET"`, `there is no variable or function "request" by itself: request.headers, request.host`},
		{`size(identity.groups) == "1"`, "no matching overload"},
		{`request.path.matches("(")`, "line 1, column 22"},
		{`request.path.matches(request.host)`, "line 1, column 29: a regular expression has to be a text"},
		{`matches(request.path, request.headers["a"])`, "a regular expression has to be a text"},
		{`request.path.matches("(a{1000}){1000}")`, "line 1, column 22"},
		{`request.path.matches("((((a{30}){30}){30}){30})")`, "line 1, column 22"},
		{`request.path == "` + strings.Repeat("a", MaxLength) + `"`, "size"},
		{strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100), "recursion"},
		{strings.Repeat("!", 1001) + "true", ""},
		{loops("[0,1,2,3,4,5,6,7,8,9]", 6), "may cost"},
		{loops("request.headers", 3), "may cost"},
		{loops("request.headers", 2), ""},
		{loops("identity.claims.a", 3), "may cost"},
		{`request.path.contains(request.headers["a"])`, "may cost"},
		{`timestamp("yesterday") < now`, "line 1"},
	} {
		e, err := Compile(c.text)
		shown := c.text[:min(len(c.text), 60)]
		if c.wrong == "" {
			if err != nil || e == nil {
				t.Errorf("%s: %v", shown, err)
			}
			continue
		}
		var wrong *Error
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v; want %q", shown, err, c.wrong)
		}
	}
}

// loops are so many loops over a list, each in the one before.
func loops(list string, depth int) string {
	text := "true"
	for i := range depth {
		v := string(rune('a' + i))
		text = list + ".all(" + v + ", " + text + " && " + v + " == " + v + ")"
	}
	return text
}

// TestCounted tells which expressions might cost too much.
func TestCounted(t *testing.T) {
	for text, want := range map[string]bool{
		`request.method == "GET" && "admins" in identity.groups`:                                 false,
		`request.path.startsWith("/a") && request.headers["x-tenant"] == identity.claims.tenant`: false,
		`request.path.matches("/a/[0-9]+")`:                                                      false,
		`request.headers.all(h, h != "x")`:                                                       false,
		`identity.claims.roles.exists(r, r == "admin")`:                                          false,
		loops("request.headers", 2):                                                              true,
	} {
		e, err := Compile(text)
		if err != nil || e.Counted() != want {
			t.Errorf("%s: counted %t, %v", text, e.Counted(), err)
		}
	}
}

// FuzzCompile compiles any text: what is accepted costs what is allowed at the most, and can be evaluated to something.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		`request.method == "GET" && "a" in identity.groups`, `request.headers.all(a, request.query.exists(b, a == b))`,
		`identity.claims.a.b[1].c > 2u`, `request.path.matches("a*") ? now < timestamp("2030-01-01T00:00:00Z") : false`,
		`[1, 2].map(x, x * 2) == [2, 4] && {"a": 1}.a == 1`, `cidr("10.0.0.0/8").containsIP(client.address)`,
		`has(identity.claims.a)`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Compile(text)
		if err != nil {
			var wrong *Error
			if !errors.As(err, &wrong) || wrong.Message == "" {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		_, _ = e.Eval(cel.NoVars())
	})
}

// BenchmarkCompile is what a commit spends on an expression.
func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(`request.path.startsWith("/a/") && "admins" in identity.groups`); err != nil {
			b.Fatal(err)
		}
	}
}
