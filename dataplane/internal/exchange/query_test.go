package exchange

import "testing"

func TestChangeQuery(t *testing.T) {
	for _, c := range []struct {
		query string
		gone  []string
		added string
		want  string
	}{
		{"a=1&b=2&%61=3&c", []string{"a"}, "", "b=2&c"},
		{"a=%7e&&b=2", []string{"b"}, "b=3", "a=%7e&b=3"},
		{"a=1", []string{"a"}, "", ""},
		{"", nil, "a=1", "a=1"},
	} {
		x := &Exchange{}
		x.Request.RawQuery, x.Request.HasQuery = c.query, true
		if x.ChangeQuery(c.gone, c.added); x.Request.RawQuery != c.want || x.Request.HasQuery != (c.want != "") {
			t.Errorf("%s without %q and with %s: %q, %t", c.query, c.gone, c.added, x.Request.RawQuery, x.Request.HasQuery)
		}
	}
}

// TestQueriesOfForks joins what parallel steps have done to the query: none undoes what another one has removed.
func TestQueriesOfForks(t *testing.T) {
	x := &Exchange{}
	x.Request.RawQuery, x.Request.HasQuery = "secret=1&token=2&a=3", true
	var first, second, third Fork
	for range 2 { // the forks are used again
		for _, f := range []*Fork{&first, &second, &third} {
			x.Fork(f, t.Context())
		}
		first.X.ChangeQuery([]string{"secret"}, "")
		second.X.ChangeQuery([]string{"token"}, "")
		second.X.ChangeQuery([]string{"b"}, "b=4")
		if got := second.X.Request.RawQuery; got == x.Request.RawQuery {
			t.Errorf("the step itself sees %s", got)
		}
		for _, f := range []*Fork{&first, &second, &third} {
			f.Join(x)
		}
		if got := x.Request.RawQuery; got != "a=3&b=4" {
			t.Errorf("joined is %s", got)
		}
		for _, f := range []*Fork{&first, &second, &third} {
			if f.Release(); len(f.queries) != 0 || f.X.queries != nil {
				t.Error("changes are left in a fork that is used again")
			}
		}
		x.Reset()
		x.Request.RawQuery, x.Request.HasQuery = "token=1&a=3&secret=2", true
	}
}
