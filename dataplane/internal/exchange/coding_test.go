package exchange

import (
	"strings"
	"testing"
)

func TestAcceptedCodings(t *testing.T) {
	all := []Coding{Zstd, Brotli, Gzip}
	for _, c := range []struct {
		sent     []string // Accept-Encoding; nil: none
		want     Coding
		identity bool
	}{
		{nil, Identity, true},
		{[]string{""}, Identity, true},
		{[]string{"gzip"}, Gzip, true},
		{[]string{"GZIP"}, Gzip, true},
		{[]string{"x-gzip"}, Gzip, true},
		{[]string{"gzip, deflate, br, zstd"}, Zstd, true},
		{[]string{"gzip, deflate, br"}, Brotli, true},
		{[]string{"gzip", "br;q=0.9"}, Gzip, true},
		{[]string{"gzip;q=0.5,br;q=0.8 , zstd;q=0.1"}, Brotli, true},
		{[]string{"gzip ; q=0.5 , br\t;\tQ=1"}, Brotli, true},
		{[]string{"gzip;q=0"}, Identity, true},
		{[]string{"gzip;q=0.000, br;q=0.001"}, Brotli, true},
		{[]string{"*"}, Zstd, true},
		{[]string{"*;q=0.1, zstd;q=0, gzip;q=0.2"}, Gzip, true},
		{[]string{"*;q=0"}, Identity, false},
		{[]string{"gzip, *;q=0"}, Gzip, false},
		{[]string{"identity;q=0"}, Identity, false},
		{[]string{"identity;q=0, *"}, Zstd, false},
		{[]string{"identity, *;q=0"}, Identity, true},
		{[]string{"identity;q=1, gzip;q=0.5"}, Identity, true},
		{[]string{"identity;q=0.5, gzip;q=0.5"}, Gzip, true},
		{[]string{"gzip;q=2"}, Identity, true},
		{[]string{"gzip;q=x, br"}, Brotli, true},
		{[]string{"gzip;q=0, gzip"}, Identity, true},
		{[]string{"deflate, compress"}, Identity, true},
		{[]string{",, ,;q=1, gzip,"}, Gzip, true},
	} {
		var h Header
		for _, v := range c.sent {
			h.Add("accept-encoding", v)
		}
		a := h.AcceptedCodings()
		if got := a.Choose(all); got != c.want || a.AcceptsIdentity() != c.identity {
			t.Errorf("%q: %s, identity %v", c.sent, got, a.AcceptsIdentity())
		}
		if got := a.Choose(nil); got != Identity {
			t.Errorf("%q: %s of none", c.sent, got)
		}
	}
	var h Header
	h.Add("Accept-Encoding", "gzip, deflate, br;q=0.9, zstd, *;q=0.1")
	if n := testing.AllocsPerRun(100, func() { _ = h.AcceptedCodings() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAcceptEncoding reads any Accept-Encoding, and the same in two fields. What is chosen is one of those that there
// are, stands in the field or is covered by "*", and does not depend on where a list is cut.
func FuzzAcceptEncoding(f *testing.F) {
	for _, s := range []string{
		"gzip", "gzip;q=0.5, *;q=0", "identity;q=0,br", "x-gzip;q=1.000;a=b", ";,;q=,*", "zstd;q=0.0011", "gzip;q=0;q=1",
	} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, s string, at int) {
		read := func(values ...string) AcceptedCodings {
			var h Header
			for _, v := range values {
				h.Add("Accept-Encoding", v)
			}
			return h.AcceptedCodings()
		}
		a := read(s)
		c := a.Choose([]Coding{Brotli, Gzip})
		lower := strings.ToLower(s)
		if c != Identity && !strings.Contains(lower, c.String()) && !strings.Contains(lower, "*") {
			t.Errorf("%q: %s", s, c)
		}
		if c == Zstd {
			t.Errorf("%q: chose what there is not", s)
		}
		if at >= 0 && at < len(s) && s[at] == ',' {
			if b := read(s[:at], s[at+1:]); a != b {
				t.Errorf("%q: %v, in two fields %v", s, a, b)
			}
		}
	})
}

func TestVary(t *testing.T) {
	for _, c := range []struct {
		sent []string
		want string
	}{
		{nil, "Accept-Encoding"},
		{[]string{"Origin"}, "Origin, Accept-Encoding"},
		{[]string{"Origin", "Accept"}, "Origin, Accept, Accept-Encoding"},
		{[]string{""}, "Accept-Encoding"},
		{[]string{"Origin, accept-encoding"}, "Origin, accept-encoding"},
		{[]string{"Origin", "*"}, "Origin|*"},
		{[]string{"X-Accept-Encoding"}, "X-Accept-Encoding, Accept-Encoding"},
	} {
		var x Exchange
		for _, v := range c.sent {
			x.Response.Header.Add("vary", v)
		}
		x.Vary("Accept-Encoding")
		var got []string
		for v := range x.Response.Header.Values("Vary") {
			got = append(got, v)
		}
		if text := strings.Join(got, "|"); text != c.want {
			t.Errorf("%q: %q", c.sent, text)
		}
	}
}
