package hostname

import (
	"slices"
	"strings"
	"testing"

	"gateway.internal/shared/hostname/hostnametest"
)

func parse(t testing.TB, s string) Pattern {
	t.Helper()
	p, err := Parse(s)
	if err != nil {
		t.Fatalf("%q %v", s, err)
	}
	return p
}

func TestPatterns(t *testing.T) {
	for _, c := range hostnametest.Cases() {
		p := parse(t, c.Pattern)
		var b Buffer
		key := Key(&b, c.Host)
		if got := p.Matches(string(key)); got != c.Matches {
			t.Errorf("%q stands for %q: %v", c.Pattern, c.Host, got)
		}
		var x Index[int]
		x.Put(p, 1)
		if _, got := x.Lookup(key); got != c.Matches {
			t.Errorf("the index finds %q for %q: %v", c.Pattern, c.Host, got)
		}
		if again := parse(t, p.String()); again != p {
			t.Errorf("%q is written as %q, which is read as %q", c.Pattern, p, again)
		}
	}
}

func TestPatternsThatAreNone(t *testing.T) {
	for _, s := range []string{"", "*", "*.", "*.*.test", "a.*.test", "*a.test", ".a.test", "a..test", "a.test:80", "http://a.test", "a b", "[::1", "::1]", "[a.test]", "[::1]:80", "*.::1", "*.0.0.1", "fe80::1%eth0", "münchen.test", strings.Repeat("a", 64) + ".test", strings.Repeat("a.", 130)} {
		if p, err := Parse(s); err == nil {
			t.Errorf("%q is taken as %q", s, p)
		}
	}
}

// TestWhatIsWrong: what is no host is told what it has that a host has not.
func TestWhatIsWrong(t *testing.T) {
	for s, want := range map[string]string{
		"": "is empty", "http://a.test": "has a scheme", "a.test/b": `has a "/"`,
		"a.test:80": "has a port", "[::1]:80": "has a port", "1.2.3.4:80": "has a port",
		"fe80::1%eth0": "zone", "::g": "IPv6", "::1:2:3:4:5:6:7:8:9": "IPv6",
		"*": `"*" stands for`, "*a.test": `"*" stands for`, "a.*.test": `"*" stands for`, "*.0.0.1": "part of an address",
		"münchen.test": "xn--", "a..test": "labels", strings.Repeat("a", 64): "labels", "a b": "is no host: a name such as",
	} {
		if _, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		p, o string
		want bool
	}{
		{"a.test", "A.test.", true},
		{"a.test", "*.a.test", false},
		{"*.test", "a.test", true},
		{"*.test", "*.test", true},
		{"*.test", "*.a.test", true},
		{"*.a.test", "*.test", false},
		{"*.a.test", "a.test", false},
		{"*.a.test", "*.xa.test", false},
	} {
		if got := parse(t, c.p).Covers(parse(t, c.o)); got != c.want {
			t.Errorf("%s covers %s: %v", c.p, c.o, got)
		}
	}
}

func TestTheMostSpecificIsFound(t *testing.T) {
	var x Index[string]
	for _, s := range []string{"*.test", "*.a.test", "b.a.test"} {
		x.Put(parse(t, s), s)
	}
	for host, want := range map[string]string{"b.a.test": "b.a.test", "c.b.a.test": "*.a.test", "c.a.test": "*.a.test", "a.test": "*.test", "c.b.test": "*.test", "test": "", "other": ""} {
		var b Buffer
		if got, _ := x.Lookup(Key(&b, host)); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
	if got := slices.Collect(parse(t, "*.b.a.test").Above()); !slices.Equal(got, []Pattern{".b.a.test", ".a.test", ".test"}) {
		t.Errorf("above *.b.a.test is %q", got)
	}
}

func TestKeyDoesNotAllocate(t *testing.T) {
	var b Buffer
	for _, host := range []string{"API.shop.test:8443", "[2001:db8::1]:80", "a.b.shop.test."} {
		if n := testing.AllocsPerRun(100, func() { Key(&b, host) }); n != 0 {
			t.Errorf("%s: %v allocations", host, n)
		}
	}
}

// FuzzPattern holds Matches, Covers and Index against each other.
func FuzzPattern(f *testing.F) {
	for _, c := range hostnametest.Cases() {
		f.Add(c.Pattern, "*.shop.test", c.Host)
	}
	f.Fuzz(func(t *testing.T, one, other, host string) {
		p, err := Parse(one)
		if err != nil {
			return
		}
		if again, err := Parse(p.String()); err != nil || again != p {
			t.Fatalf("%q is written as %q, which is read as %q, %v", one, p, again, err)
		}
		var b Buffer
		key := string(Key(&b, host))
		o, err := Parse(other)
		if err != nil {
			return
		}
		if p.Covers(o) && o.Matches(key) && !p.Matches(key) {
			t.Errorf("%q covers %q, which matches %q", p, o, key)
		}
		if p.Matches(key) && string(Key(&b, key)) == "" {
			t.Errorf("the key %q has none", key)
		}
		var x Index[Pattern]
		x.Put(p, p)
		x.Put(o, o)
		found, ok := x.Lookup(Key(&b, host))
		if ok != (p.Matches(key) || o.Matches(key)) || ok && (p.Matches(key) && !p.Covers(found) || o.Matches(key) && !o.Covers(found)) {
			t.Errorf("%q is found for %q among %q and %q", found, key, p, o)
		}
	})
}
