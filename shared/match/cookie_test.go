package match

import "testing"

// field is a request's one header field.
type field struct{ name, value string }

func (f field) Lookup(name string) (string, bool) { return f.value, f.name == name }

func TestCookies(t *testing.T) {
	for _, c := range []struct {
		field, name, want string
		found             bool
	}{
		{"a=1", "a", "1", true},
		{"a=1; b=2", "b", "2", true},
		{"ba=1; a=2", "a", "2", true},
		{"a=1; a=2", "a", "1", true},
		{"  a =\t1 ;", "a", "1", true},
		{`a="1"`, "a", "1", true},
		{`a="`, "a", `"`, true},
		{"a=", "a", "", true},
		{"a=b=c", "a", "b=c", true},
		{"a", "a", "", false},
		{"A=1", "a", "", false},
		{";;=;a", "a", "", false},
		{"", "a", "", false},
	} {
		if got, found := Cookie(field{"Cookie", c.field}, c.name); got != c.want || found != c.found {
			t.Errorf("%q in %q: %q, %v", c.name, c.field, got, found)
		}
	}
	if _, found := Cookie(nil, "a"); found {
		t.Error("a cookie without fields")
	}
}
