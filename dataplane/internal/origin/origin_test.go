package origin

import "testing"

func TestSet(t *testing.T) {
	s := Compile([]string{"https://App.example.com", "https://*.example.org", "http://localhost:3000"})
	for text, want := range map[string]bool{
		"https://app.example.com": true, "HTTPS://APP.EXAMPLE.COM": true, "http://app.example.com": false,
		"https://app.example.com:8443": false, "https://a.b.example.org": true, "https://example.org": false,
		"https://evil.com/.example.org": false, "https://evil.com?.example.org": false, "http://localhost:3000": true,
		"http://localhost:3001": false, "null": false, "": false, "https://app.example.com.evil.com": false,
	} {
		if s.Has(text) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
	if any := Compile([]string{"*"}); !any.Any() || !any.Has("null") {
		t.Error("* is not any")
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		origin, host string
		want         bool
	}{
		{"https://a.example", "a.example", true},
		{"https://a.example", "A.example:443", true},
		{"https://a.example:443", "a.example", true},
		{"http://a.example", "a.example:80", true},
		{"http://a.example", "a.example:443", false},
		{"https://a.example:8443", "a.example", false},
		{"https://a.example:8443", "a.example:8443", true},
		{"http://[::1]:8080", "[::1]:8080", true},
		{"https://b.example", "a.example", false},
		{"https://a.example.b.example", "a.example", false},
		{"null", "null", false},
		{"https://", "", false},
		{"", "", false},
	} {
		if Same(c.origin, c.host) != c.want {
			t.Errorf("%q of %q: %t", c.origin, c.host, !c.want)
		}
	}
}
