package match

import (
	"strings"
	"testing"
)

// lines are header fields of one name, in their order.
type lines struct {
	name   string
	values []string
}

func (l lines) Lookup(name string) (string, bool) {
	value, _, ok := l.LookupFrom(0, name)
	return value, ok
}

func (l lines) LookupFrom(place int, name string) (string, int, bool) {
	if name != l.name || place >= len(l.values) {
		return "", 0, false
	}
	return l.values[place], place + 1, true
}

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
		{"b=2\na=1", "a", "1", true},
		{"b=2\n\nc=3; a=1\na=4", "a", "1", true},
		{"b=2\nc=3", "a", "", false},
	} {
		if got, found := Cookie(lines{"Cookie", strings.Split(c.field, "\n")}, c.name); got != c.want || found != c.found {
			t.Errorf("%q in %q: %q, %v", c.name, c.field, got, found)
		}
	}
	if _, found := Cookie(nil, "a"); found {
		t.Error("a cookie without fields")
	}
}
