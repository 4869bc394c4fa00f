package csrf

import (
	"net/http"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// TestCsrf also asks net/http's own protection, which has to agree but where the table says otherwise.
func TestCsrf(t *testing.T) {
	s, err := New(&middlewarev1.Csrf{
		TrustedOrigins: []string{"https://admin.example.com", "https://*.partner.example"},
		ExcludePaths:   []string{"/hooks/*"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var standard http.CrossOriginProtection
	if err := standard.AddTrustedOrigin("https://admin.example.com"); err != nil {
		t.Fatal(err)
	}
	const site, from = "Sec-Fetch-Site", "Origin"
	for _, c := range []struct {
		name, method, path string
		upgrade            string
		fields             []string // names and values in turn
		passes, differs    bool
	}{
		{"no browser", "POST", "/a", "", nil, true, false},
		{"own page", "POST", "/a", "", []string{site, "same-origin", from, "https://shop.example.com"}, true, false},
		{"typed in", "POST", "/a", "", []string{site, "none"}, true, false},
		{"another site", "POST", "/a", "", []string{site, "cross-site", from, "https://evil.example"}, false, false},
		{"a sister", "POST", "/a", "", []string{site, "same-site", from, "https://www.example.com"}, false, false},
		{"another site without Origin", "POST", "/a", "", []string{site, "cross-site"}, false, false},
		{"something new", "POST", "/a", "", []string{site, "same-planet"}, false, false},
		{"nothing", "POST", "/a", "", []string{site, ""}, false, true},
		{"a trusted one", "POST", "/a", "", []string{site, "same-site", from, "https://admin.example.com"}, true, false},
		{"below a trusted one", "POST", "/a", "", []string{site, "cross-site", from, "https://a.partner.example"}, true,
			true},
		{"an old browser, own page", "POST", "/a", "", []string{from, "https://shop.example.com"}, true, false},
		{"an old browser, own page in cleartext", "POST", "/a", "", []string{from, "http://shop.example.com"}, true, false},
		{"an old browser, another port", "POST", "/a", "", []string{from, "https://shop.example.com:8443"}, false, false},
		{"an old browser, another site", "DELETE", "/a", "", []string{from, "https://evil.example"}, false, false},
		{"an old browser, a sandbox", "POST", "/a", "", []string{from, "null"}, false, false},
		{"own host in the user's place", "POST", "/a", "", []string{from, "https://shop.example.com@evil.example"}, false,
			false},
		{"own host in the path", "POST", "/a", "", []string{from, "https://evil.example/shop.example.com"}, false, false},
		{"two origins", "POST", "/a", "", []string{from, "https://shop.example.com", from, "https://evil.example"}, false,
			true},
		{"two sites", "POST", "/a", "", []string{site, "same-origin", site, "cross-site"}, false, true},
		{"a safe method", "GET", "/a", "", []string{site, "cross-site", from, "https://evil.example"}, true, false},
		{"a safe method, HEAD", "HEAD", "/a", "", []string{site, "cross-site"}, true, false},
		{"a method of its own", "PURGE", "/a", "", []string{site, "cross-site"}, false, false},
		{"a WebSocket of another site", "GET", "/a", "websocket", []string{site, "cross-site", from,
			"https://evil.example"}, false, true},
		{"a WebSocket of an old browser", "GET", "/a", "websocket", []string{from, "https://evil.example"}, false, true},
		{"an own WebSocket", "GET", "/a", "websocket", []string{site, "same-origin", from, "https://shop.example.com"},
			true, false},
		{"excluded", "POST", "/hooks/a", "", []string{from, "https://evil.example"}, true, true},
		{"excluded by its spelling alone", "POST", "/hooks;/../a", "", []string{from, "https://evil.example"}, false, false},
	} {
		x := &exchange.Exchange{}
		x.Request.Method, x.Request.Path, x.Request.Host, x.Request.Upgrade = c.method, c.path, "shop.example.com", c.upgrade
		r := &http.Request{Method: c.method, Host: x.Request.Host, Header: http.Header{}}
		for i := 0; i < len(c.fields); i += 2 {
			x.Request.Header.Add(c.fields[i], c.fields[i+1])
			r.Header.Add(c.fields[i], c.fields[i+1])
		}
		got := s.Request(x) == exchange.Continue
		if got != c.passes || !got && x.Response.Status != 403 {
			t.Errorf("%s: passes %t, %d", c.name, got, x.Response.Status)
		}
		if theirs := standard.Check(r) == nil; (theirs != c.passes) != c.differs {
			t.Errorf("%s: net/http lets it pass: %t", c.name, theirs)
		}
	}
	if _, err := New(&middlewarev1.Cors{}, nil); err == nil {
		t.Error("took settings of another type")
	}
}

func BenchmarkCsrf(b *testing.B) {
	s, err := New(&middlewarev1.Csrf{TrustedOrigins: []string{"https://admin.example.com"}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	x := &exchange.Exchange{}
	x.Request.Method, x.Request.Path, x.Request.Host = "POST", "/a", "shop.example.com"
	for _, name := range []string{"Accept", "User-Agent", "Accept-Language", "Content-Type"} {
		x.Request.Header.Add(name, "a")
	}
	x.Request.Header.Add("Origin", "https://shop.example.com")
	b.ReportAllocs()
	for b.Loop() {
		if s.Request(x) != exchange.Continue {
			b.Fatal("refused")
		}
	}
}
