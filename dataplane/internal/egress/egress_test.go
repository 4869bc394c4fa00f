package egress

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestPolicy(t *testing.T) {
	private, err := ParsePolicy([]string{"private", "192.0.2.7"})
	if err != nil {
		t.Fatal(err)
	}
	loopback, err := ParsePolicy([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		url, address string
		policy       *Policy
		want         bool
	}{
		{"https://a.example", "8.8.8.8", nil, true},
		{"https://a.example", "2606:4700::1111", nil, true},
		{"http://a.example", "8.8.8.8", nil, false},
		{"http://127.0.0.1:80", "127.0.0.1", nil, true},
		{"http://127.1.2.3:80", "127.1.2.3", nil, true},
		{"http://[::1]:80", "::1", nil, true},
		{"http://localhost:80", "127.0.0.1", nil, true},
		{"https://LOCALHOST", "::1", nil, true},
		{"http://127.0.0.1:80", "8.8.8.8", nil, false},
		{"https://a.example", "127.0.0.1", nil, false}, // DNS rebinding
		{"https://localhost.example", "127.0.0.1", nil, false},
		{"https://a.example", "::ffff:127.0.0.1", nil, false},
		{"https://a.example", "::1", nil, false},
		{"https://a.example", "0.0.0.0", nil, false},
		{"https://a.example", "::", nil, false},
		{"https://a.example", "10.0.0.1", nil, false},
		{"https://a.example", "172.31.0.1", nil, false},
		{"https://a.example", "192.168.1.1", nil, false},
		{"https://a.example", "100.64.0.1", nil, false},
		{"https://a.example", "169.254.169.254", nil, false}, // metadata of clouds
		{"https://a.example", "::ffff:169.254.169.254", nil, false},
		{"https://a.example", "fe80::1", nil, false},
		{"https://a.example", "fd00:ec2::254", nil, false},
		{"https://a.example", "64:ff9b::a9fe:a9fe", nil, false}, // by NAT64
		{"https://a.example", "2002:a9fe:a9fe::1", nil, false},  // by 6to4
		{"https://a.example", "224.0.0.1", nil, false},
		{"https://a.example", "255.255.255.255", nil, false},
		{"https://a.example", "10.0.0.1", private, true},
		{"http://a.example", "10.0.0.1", private, true},
		{"http://a.example", "::ffff:10.0.0.1", private, true},
		{"http://a.example", "192.0.2.7", private, true},
		{"http://a.example", "192.0.2.8", private, false},
		{"https://a.example", "169.254.169.254", private, false},
		{"https://a.example", "127.0.0.1", private, false},
		{"https://a.example", "127.0.0.1", loopback, true},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if why := c.policy.check(u, netip.MustParseAddr(c.address)); (why == "") != c.want {
			t.Errorf("%s at %s: %q", c.url, c.address, why)
		}
	}
	for _, text := range []string{"x", "10.0.0.1/8", "", "public"} {
		if _, err := ParsePolicy([]string{text}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func get(c *Client, url string, most int64) (*Response, error) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	return c.Do(r, most)
}

// TestNamesThatLeadInside is a name that resolves to an address inside, which the configuration does not name.
func TestNamesThatLeadInside(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server was asked") }))
	defer s.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	for _, host := range []string{"0.0.0.0", "[::ffff:0.0.0.0]", "[::]"} { // which the kernel takes for this machine
		_, err := get(New(nil), "http://"+host+":"+port+"/keys?secret=1", 100)
		var forbidden *Forbidden
		if !errors.As(err, &forbidden) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestRedirects(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("another server was asked")
	}))
	defer other.Close()
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, s.URL+"/here", http.StatusFound)
		case "/here":
			_, _ = w.Write([]byte("ok"))
		case "/other":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/metadata":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		}
	}))
	defer s.Close()
	c := New(nil)
	defer c.Close()
	if res, err := get(c, s.URL+"/same", 100); err != nil || string(res.Body) != "ok" {
		t.Errorf("%v, %v", res, err)
	}
	for _, path := range []string{"/other", "/metadata", "/file", "/loop"} {
		if _, err := get(c, s.URL+path, 100); err == nil || !strings.Contains(err.Error(), "redirects") {
			t.Errorf("%s: %v", path, err)
		}
	}
	r, _ := http.NewRequest(http.MethodPost, s.URL+"/same", strings.NewReader("token=secret"))
	if _, err := c.Do(r, 100); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("a POST follows: %v", err)
	}
}

func TestLongResponses(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat("a", 101)))
	}))
	defer s.Close()
	if _, err := get(nil, s.URL, 100); err == nil || !strings.Contains(err.Error(), "longer than 100") {
		t.Error(err)
	}
	if res, err := get(nil, s.URL, 101); err != nil || len(res.Body) != 101 {
		t.Error(err)
	}
}
