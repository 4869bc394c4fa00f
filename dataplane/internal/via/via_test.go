package via

import (
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
)

func header(values ...string) *exchange.Header {
	h := &exchange.Header{}
	for _, v := range values {
		h.Add("Via", v)
	}
	return h
}

func TestVisitsAreCounted(t *testing.T) {
	n := New(Settings{Pseudonym: "gw-1", MaxVisits: 3})
	for _, c := range []struct {
		values []string
		want   int
	}{
		{nil, 0},
		{[]string{""}, 0},
		{[]string{"1.1 gw-1"}, 1},
		{[]string{"1.1 GW-1"}, 1},
		{[]string{"HTTP/1.1 gw-1"}, 1},
		{[]string{"1.1 gw-10, 1.1 gw, 1.1 gw-1:80, gw-1"}, 0},
		{[]string{"1.0 fred, 1.1 gw-1 (Gateway)", "2.0\tgw-1(x)"}, 2},
		{[]string{"1.1 a (b, c), 1.1 gw-1"}, 1},
		{[]string{"1.1 a (, 1.1 gw-1"}, 1},
		{[]string{`1.1 a (\`, "1.1 gw-1"}, 1},
		{[]string{",, ,1.1  gw-1 ,\t1.1 gw-1,"}, 2},
	} {
		got := 0
		for _, v := range c.values {
			got += n.visits(v)
		}
		if got != c.want {
			t.Errorf("%q: %d visits, want %d", c.values, got, c.want)
		}
	}
	if n.Loops(header("1.1 gw-1, 1.1 other", "1.1 gw-1")) || !n.Loops(header("1.1 gw-1, 1.1 gw-1", "1.1 other, 1.1 gw-1")) {
		t.Error("not three visits are too many")
	}
}

func TestText(t *testing.T) {
	n := New(Settings{Pseudonym: "gw", MaxVisits: 1})
	for v, want := range map[exchange.Version]string{exchange.HTTP10: "1.0 gw", exchange.HTTP11: "1.1 gw", exchange.HTTP2: "2.0 gw"} {
		if got := n.Text(v); got != want || n.visits(got) != 1 {
			t.Errorf("%v: %q", v, got)
		}
	}
}

func TestSettings(t *testing.T) {
	for _, s := range []Settings{
		{"", 1}, {"a b", 1}, {"a,b", 1}, {"a(b", 1}, {strings.Repeat("a", 65), 1}, {"a", 0}, {"a", 101}, {"ä", 1}, {"a:80", 1},
	} {
		if s.Check() == nil {
			t.Errorf("%+v was taken", s)
		}
	}
	a, b := PseudonymOf("node-1"), PseudonymOf("node-2")
	if a == b || a != PseudonymOf("node-1") || (Settings{a, DefaultMaxVisits}).Check() != nil || strings.Contains(a, "node") {
		t.Errorf("%q, %q", a, b)
	}
}

// Whatever others have written into the field, the node counts what it adds.
func FuzzVisits(f *testing.F) {
	f.Add("1.1 gw, 1.0 fred (a, b)")
	f.Add(`1.1 a (\`)
	n := New(Settings{Pseudonym: "gw", MaxVisits: 3})
	f.Fuzz(func(t *testing.T, value string) {
		before := n.visits(value)
		if before < 0 || before > len(value) {
			t.Fatalf("%d visits in %q", before, value)
		}
		if after := n.visits(n.Text(exchange.HTTP11) + ", " + value); after != before+1 {
			t.Fatalf("%d visits in %q, %d with one more", before, value, after)
		}
		if after := n.visits(value + ", " + n.Text(exchange.HTTP11)); after != before+1 {
			t.Fatalf("%d visits in %q, %d with one more", before, value, after)
		}
	})
}
